"""JSON lines, Parquet, HTML and PDF files: what comes out, and what is said of files that are damaged."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile, list_files, listed_files, share_out
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.readers.html_pages import HtmlReader
from megatron_mimo.data.pipeline.readers.jsonl import JsonlReader
from megatron_mimo.data.pipeline.readers.parquet import ParquetReader
from megatron_mimo.data.pipeline.readers.pdf_files import PdfReader
from megatron_mimo.data.pipeline.step import Task

LINES = "".join(json.dumps({"text": f"text {i}", "url": f"http://a/{i}", "score": i}) + "\n" for i in range(2000))


def read(reader: FileReader) -> tuple[list[Document], Task]:
    task = Task()
    return list(reader.read(reader.list(), task)), task


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_lines_of_every_packing(tmp_path: Path, ending: str) -> None:
    data = LINES.encode()
    half = data.index(b"\n", len(data) // 2) + 7  # members that end in the middle of a line
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}.get(ending[6:], bytes)
    (tmp_path / f"a.{ending}").write_bytes(pack(data[:half]) + pack(data[half:]))
    documents, task = read(JsonlReader(files=[f"{tmp_path}/*.{ending}"], source="web"))
    assert [document.text for document in documents] == [f"text {i}" for i in range(2000)]
    assert documents[7].url == "http://a/7" and documents[7].metadata == {"score": 7} and documents[7].source == "web"
    for document in documents[::100]:
        offset = int(document.id.removeprefix(f"a.{ending}:"))
        assert json.loads(data[offset : data.index(b"\n", offset)])["text"] == document.text
    assert task.faults == []


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_cut_file_gives_what_is_there_and_the_next_file_follows(tmp_path: Path, ending: str, share: float) -> None:
    pack = gzip.compress if ending.endswith("gz") else zstandard.ZstdCompressor().compress
    packed = pack(LINES.encode())
    (tmp_path / f"a.{ending}").write_bytes(packed[: int(share * len(packed))])
    (tmp_path / f"b.{ending}").write_bytes(packed)
    documents, task = read(JsonlReader(files=[f"{tmp_path}/*"]))
    after = [document for document in documents if document.id.startswith("b.")]
    assert len(after) == 2000
    assert [fault.place.partition(":")[0] for fault in task.faults] == [str(tmp_path / f"a.{ending}")]
    assert int(task.faults[0].place.rpartition(":")[2]) <= int(share * len(packed))


def test_bad_lines_are_faults_with_their_byte_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = b'{"text": "good"}'
    bad = [
        b"not json",
        b'"string"',
        b'{"other": 1}',
        b'{"text": 5}',
        b'{"text": "caf\xe9"}',
        b'{"text": "' + b"x" * 900,
    ]
    path.write_bytes(b"\n".join(line for one in bad for line in (one, good)))
    documents, task = read(JsonlReader(files=[str(path)], max_record_bytes=500))
    assert [document.text for document in documents] == [*["good"] * 4, "caf\ufffd", "good", "good"]
    starts = [path.read_bytes().index(one) for one in bad]
    assert [fault.place for fault in task.faults] == [f"{path}:{start}" for start in starts]
    assert task.counts["read/invalid_utf8"] == 1 and task.counts["read/oversize"] == 1
    assert task.counts["read/faults"] == 6


def test_a_line_longer_than_memory_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "' + bytes(30_000_000) + b'"}\n{"text": "next"}\n'))
    documents, task = read(JsonlReader(files=[str(path)], max_record_bytes=1000))
    assert [document.text for document in documents] == ["next"]
    assert [fault.place for fault in task.faults] == [f"{path}:0"]


def test_parquet_by_row_groups(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.table({"text": [f"text {i}" for i in range(1000)], "url": ["u"] * 1000, "n": list(range(1000))})
    parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=300)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 is not enough")
    parquet.write_table(pyarrow.table({"text": ["x", None]}), tmp_path / "c.parquet")
    documents, task = read(ParquetReader(files=[f"{tmp_path}/*.parquet"], columns=["n"]))
    assert [document.text for document in documents] == [*(f"text {i}" for i in range(1000)), "x"]
    assert [document.id for document in documents[298:302]] == [f"a.parquet:{i}" for i in range(298, 302)]
    assert documents[500].metadata == {"n": 500}
    assert [fault.place for fault in task.faults] == [f"{tmp_path}/b.parquet", f"{tmp_path}/c.parquet: row 1"]


def test_damaged_row_group_costs_itself_alone(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    texts = [f"some text number {i}" for i in range(900)]
    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=300, use_dictionary=False)
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    documents, task = read(ParquetReader(files=[str(path)]))
    assert [document.text for document in documents] == [*texts[:300], *texts[600:]]
    assert [fault.place for fault in task.faults] == [f"{path}: row group 1"]


def test_html_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.html").write_text('<meta charset="utf-8"><p>é', encoding="utf-8")
    (tmp_path / "a" / "two.html").write_bytes('<meta charset="gb2312"><p>中文'.encode("gbk"))
    (tmp_path / "big.html").write_bytes(b"x" * 2000)
    (tmp_path / "bytes.html").write_bytes(b"<p>ok \xff\xfe\xfa")
    documents, task = read(HtmlReader(files=[f"{tmp_path}/**/*.html"], max_record_bytes=1000))
    texts = {document.id: document.text for document in documents}
    assert texts["a/one.html"].endswith("<p>é") and texts["a/two.html"].endswith("<p>中文")
    assert texts["bytes.html"].startswith("<p>ok ")
    assert [fault.place for fault in task.faults] == [f"{tmp_path}/big.html"]


def test_pdf_files(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 ...")
    (tmp_path / "b.pdf").write_bytes(b"<html>not found</html>")
    documents, task = read(PdfReader(files=[f"{tmp_path}/*.pdf"]))
    assert [document.metadata for document in documents] == [
        {"media_type": "application/pdf", "path": f"{tmp_path}/a.pdf"}
    ]
    assert [fault.place for fault in task.faults] == [f"{tmp_path}/b.pdf"]


def test_object_store_gives_the_same_documents(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    packed = gzip.compress(LINES.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    fsspec.filesystem("memory").pipe("/bucket/a.jsonl.gz", packed)
    local, _ = read(JsonlReader(files=[f"{tmp_path}/*.gz"]))
    remote, _ = read(JsonlReader(files=["memory://bucket/*.gz"]))
    assert local == remote
    reader = JsonlReader(files=["memory://bucket/*.gz"])
    assert reader.list()[0].size_bytes == len(packed)


def test_missing_file_is_a_fault_and_no_match_an_error(tmp_path: Path) -> None:
    reader = JsonlReader(files=[f"{tmp_path}/a.jsonl"])
    with pytest.raises(UserError, match="no file matches"):
        reader.list()
    task = Task()
    assert list(reader.read([InputFile(f"{tmp_path}/a.jsonl", "a", 5)], task)) == []
    assert task.faults[0].place == f"{tmp_path}/a.jsonl"


def test_listed_files(tmp_path: Path) -> None:
    path = tmp_path / "warc.paths.gz"
    path.write_bytes(gzip.compress(b"crawl/a.warc.gz\ncrawl/b.warc.gz\n"))
    files = listed_files(str(path), "s3://bucket/")
    assert [(file.path, file.name) for file in files] == [
        ("s3://bucket/crawl/a.warc.gz", "crawl/a.warc.gz"),
        ("s3://bucket/crawl/b.warc.gz", "crawl/b.warc.gz"),
    ]


def test_names_stay_unique_over_patterns(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text("{}")
    files = list_files([f"{tmp_path}/a/*", f"{tmp_path}/b/*", f"{tmp_path}/a/x.jsonl"])
    assert [file.name for file in files] == [f"{tmp_path}/a/x.jsonl", f"{tmp_path}/b/x.jsonl"]


def test_shares_are_complete_and_balanced() -> None:
    sizes = [997 * i % 101 + 1 for i in range(200)]
    files = [InputFile(f"{i:03d}", f"{i:03d}", size) for i, size in enumerate(sizes)]
    shares = share_out(files, 7)
    assert sorted(file.path for share in shares for file in share) == [file.path for file in files]
    loads = [sum(file.size_bytes for file in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)
    assert all(share == sorted(share, key=lambda file: file.path) for share in shares)
    unknown = share_out([InputFile(str(i), str(i), 0) for i in range(20)], 6)
    assert sorted(len(share) for share in unknown) == [3, 3, 3, 3, 4, 4]
    assert share_out(files[:1], 3)[1:] == [[], []]
