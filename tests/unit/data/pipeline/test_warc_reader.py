"""Damaged crawl files: every intact page comes out, every fault has file and byte offset."""

import base64
import gzip
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.readers.warc import WarcReader
from megatron_mimo.data.pipeline.step import Task


def read(path: Path, **options: object) -> tuple[list[Document], Task]:
    reader, task = WarcReader(files=[str(path)], **options), Task()  # type: ignore[arg-type]
    return list(reader.read(reader.list(), task)), task


def numbers(documents: list[Document]) -> list[int]:
    return [int(document.url.rsplit("/", 1)[1]) for document in documents]


def offsets(members: list[bytes]) -> list[int]:
    return [0, *itertools.accumulate(len(member) for member in members)]


def test_pages_and_their_places(tmp_path: Path, members: list[bytes]) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(members))
    documents, task = read(path)
    assert [document.id for document in documents] == [f"a.warc.gz:{offset}" for offset in offsets(members)[:-1]]
    assert documents[3].text.startswith("<html><body><p>page 3: word")
    assert documents[3].metadata == {"media_type": "text/html", "date": "2024-01-01T00:00:00Z"}
    assert task.faults == [] and task.counts["read/documents"] == 12


def test_a_damaged_member_costs_itself_alone(tmp_path: Path, members: list[bytes]) -> None:
    path, at = tmp_path / "a.warc.gz", offsets(members)
    for broken, (first, last) in itertools.product((0, 5, 11), ((0, 3), (30, 60), (-6, -2))):
        data = bytearray(b"".join(members))
        start = at[broken] + first if first >= 0 else at[broken + 1] + first
        data[start : start + last - first] = bytes(last - first)
        path.write_bytes(data)
        documents, task = read(path)
        expected = [number for number in range(12) if number != broken]
        # The last member's checksum is read after its page: then the page is there, and the fault too.
        assert [number for number in numbers(documents) if number != broken or first >= 0] == expected
        assert [fault.place for fault in task.faults] == [f"{path}:{at[broken]}"]


def test_garbage_between_members(tmp_path: Path, members: list[bytes]) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(members[:4]) + b"garbage\x1f\x8b\x08 and more" * 9 + b"".join(members[4:]))
    documents, task = read(path)
    assert numbers(documents) == list(range(12))
    assert [fault.place for fault in task.faults] == [f"{path}:{offsets(members)[4]}"]


def test_member_that_is_no_record(tmp_path: Path, members: list[bytes]) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join([*members[:4], gzip.compress(b"HELLO\r\n\r\n"), *members[4:]]))
    documents, task = read(path)
    assert numbers(documents) == list(range(12))
    assert [fault.place for fault in task.faults] == [f"{path}:{offsets(members)[4]}"]


@pytest.mark.parametrize("cut", [3, 30, 150])
def test_truncated_file(tmp_path: Path, members: list[bytes], cut: int) -> None:
    path, at = tmp_path / "a.warc.gz", offsets(members)
    path.write_bytes(b"".join(members)[: at[8] - cut])
    documents, task = read(path)
    assert numbers(documents)[:7] == list(range(7))
    assert [fault.place for fault in task.faults] == [f"{path}:{at[7]}"]


def test_truncated_plain_file(tmp_path: Path, make_record: Callable[..., bytes]) -> None:
    path = tmp_path / "a.warc"
    records = [make_record(number, b"x" * 300) for number in range(5)]
    path.write_bytes(b"".join(records)[:-150])
    documents, task = read(path)
    assert numbers(documents)[:4] == list(range(4))
    assert [fault.place for fault in task.faults] == [f"{path}:{offsets(records)[4]}"]


def test_random_damage_never_stops_the_run_and_never_doubles(tmp_path: Path, members: list[bytes]) -> None:
    path, data = tmp_path / "a.warc.gz", b"".join(members)
    generator = random.Random(0)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(generator.randrange(1, 4)):
            start = generator.randrange(len(data))
            damaged[start : start + generator.randrange(1, 40)] = generator.randbytes(generator.randrange(0, 40))
        path.write_bytes(damaged)
        documents, task = read(path)
        found = numbers(documents)
        assert found == sorted(set(found))
        if bytes(damaged) != data:
            assert len(found) >= 12 - 6 and (task.faults or len(found) == 12)


def test_encodings_of_the_body(tmp_path: Path, make_record: Callable[..., bytes]) -> None:
    html = b"Content-Type: text/html\r\n"
    text = b"<p>" + b"word " * 100
    bodies = [
        (gzip.compress(text), html + b"Content-Encoding: gzip\r\n"),
        (text, html + b"Content-Encoding: gzip\r\n"),  # unpacked by the crawler, header kept
        (b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", html + b"Transfer-Encoding: chunked\r\n"),
        (gzip.compress(text)[:-20] + b"damaged" * 5, html + b"Content-Encoding: gzip\r\n"),
        (gzip.compress(bytes(3_000_000)), html + b"Content-Encoding: gzip\r\n"),
        ("<p>日本語テキスト".encode("shift_jis"), b"Content-Type: text/html; charset=shift_jis\r\n"),
        (b"<p>caf\xe9 \xff\xfe", b"Content-Type: text/html; charset=utf-8\r\n"),
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(gzip.compress(make_record(n, *one)) for n, one in enumerate(bodies)))
    documents, task = read(path, max_record_bytes=1_000_000)
    texts = {number: document.text for number, document in zip(numbers(documents), documents, strict=True)}
    assert texts[0] == texts[1] == text.decode()
    assert texts[2] == "hello world"
    assert 4 not in texts and task.counts["read/oversize"] == 1
    assert texts[5] == "<p>日本語テキスト"
    assert texts[6].startswith("<p>caf")
    assert sum("max_record_bytes" in fault.error for fault in task.faults) == 1


def test_pdf_oversize_and_other_records(tmp_path: Path, make_record: Callable[..., bytes]) -> None:
    path = tmp_path / "a.warc"
    records = [
        make_record(0, b"%PDF-1.4 content", b"Content-Type: application/pdf\r\n"),
        make_record(1, b"x" * 5000),
        make_record(2, b"{}", b"Content-Type: application/json\r\n"),
        make_record(3, b"<p>small"),
    ]
    path.write_bytes(b"".join(records))
    documents, task = read(path, max_record_bytes=1000)
    assert numbers(documents) == [0, 3]
    assert base64.b64decode(documents[0].metadata["content_base64"]) == b"%PDF-1.4 content"
    assert task.counts["read/oversize"] == 1 and task.counts["read/other_records"] == 1
    assert task.faults[0].place == f"{path}:{len(records[0])}"
    assert numbers(read(path, pdf=False)[0]) == [1, 3]
