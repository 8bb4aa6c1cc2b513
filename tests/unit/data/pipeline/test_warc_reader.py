"""Damaged crawl files: every intact page comes out, every fault has file and byte offset."""

import base64
import gzip
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

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


def raw_record(kind: str, content_type: str, body: bytes, number: int = 0) -> bytes:
    """A WARC record of any kind; its own Content-Type is left out where it is empty."""
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
    head += f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    head += (f"Content-Type: {content_type}\r\n" if content_type else "") + f"Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def http(status: str, headers: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


def test_responses_that_are_no_success_are_dropped_with_their_status(tmp_path: Path) -> None:
    html = "Content-Type: text/html\r\n"
    bodies = [
        http(status, html, b"<p>a page")
        for status in ("200 OK", "404 Not Found", "301 Moved", "503 Busy", "206 Partial Content")
    ]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(raw_record("response", "application/http", body, n) for n, body in enumerate(bodies)))
    documents, task = read(path)
    assert numbers(documents) == [0, 4]
    assert {name: count for name, count in task.counts.items() if "dropped" in name} == {
        "read/dropped/status 404": 1, "read/dropped/status 301": 1, "read/dropped/status 503": 1,
    }  # fmt: skip
    assert numbers(read(path, statuses=[200, 404])[0]) == [0, 1]


def test_zstd_cut_and_unknown_encodings(tmp_path: Path, make_record: Callable[..., bytes]) -> None:
    html = b"Content-Type: text/html\r\n"
    text = b"<p>" + b"word " * 100
    packed = zstandard.ZstdCompressor().compress(text)
    bodies = [
        (packed, html + b"Content-Encoding: zstd\r\n"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), html + b"Content-Encoding: zstd\r\n"),
        (zstandard.ZstdCompressor().compress(bytes(3_000_000)), html + b"Content-Encoding: zstd\r\n"),
        (b"8\r\n<p>hello\r\n6;x=y\r\n world\r\n", html + b"Transfer-Encoding: chunked\r\n"),
        (b"8\r\n<p>hello\r\n60\r\n world", html + b"Transfer-Encoding: chunked\r\n"),
        (b"8\r\n<p>hello\r\nzz\r\n world and more than a size\r\n", html + b"Transfer-Encoding: chunked\r\n"),
        (b"\x1f\x9d\x90 packed", html + b"Content-Encoding: compress\r\n"),
        (text, html + b"Content-Encoding: identity\r\n"),
        (
            gzip.compress(b"<p>" + random.Random(0).randbytes(500).hex().encode())[:-200],
            html + b"Content-Encoding: gzip\r\n",
        ),
    ]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(make_record(number, *body) for number, body in enumerate(bodies)))
    documents, task = read(path, max_record_bytes=1_000_000)
    texts = {number: document.text for number, document in zip(numbers(documents), documents, strict=True)}
    assert texts.pop(8).startswith("<p>" + random.Random(0).randbytes(100).hex())  # up to the cut
    assert texts == {0: text.decode(), 3: "<p>hello world", 4: "<p>hello world", 7: text.decode()}
    assert task.counts["read/cut_bodies"] == 3 and task.counts["read/oversize"] == 1
    assert [("zstd" in fault.error, "chunk" in fault.error, "compress" in fault.error) for fault in task.faults] == [
        (True, False, False), (False, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip


def test_resources_wet_texts_and_missing_types(tmp_path: Path) -> None:
    records = [
        raw_record("resource", "text/html; charset=iso-8859-1", b"<p>caf\xe9", 0),
        raw_record("conversion", "text/plain", "ein Text für sich".encode(), 1),
        raw_record("response", "application/http", http("200 OK", "Server: x\r\n", b"\n<!DOCTYPE html><p>page"), 2),
        raw_record("response", "", http("200 OK", "Content-Type: text/html\r\n", b"<p>other"), 3),
        raw_record("response", "application/http", http("200 OK", "", b"\x89PNG...."), 4),
        raw_record("metadata", "text/html", b"<p>no page", 5),
        raw_record("resource", "application/pdf", b"%PDF-1.4 content", 6),
        raw_record("response", "application/http", http("200 OK", "", b"<h1 class=x>heading"), 7),
        raw_record("response", "application/http", http("200 OK", "", b'<?xml version="1.0"?><html>x'), 8),
        raw_record("response", "application/http", http("200 OK", "", b'<?xml version="1.0"?><rss>x'), 9),
        raw_record("response", "application/http", http("200 OK", "", b"<pre-release>x"), 10),
    ]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(records))
    documents, task = read(path)
    assert [(n, document.text) for n, document in zip(numbers(documents), documents, strict=True)] == [
        (0, "<p>café"), (1, "ein Text für sich"), (2, "\n<!DOCTYPE html><p>page"), (3, "<p>other"), (6, ""),
        (7, "<h1 class=x>heading"), (8, '<?xml version="1.0"?><html>x'),
    ]  # fmt: skip
    assert documents[1].metadata["media_type"] == "text/plain"
    assert task.faults == [] and task.counts["read/other_records"] == 4
    assert numbers(read(path, text=False)[0]) == [0, 2, 3, 6, 7, 8]


@pytest.mark.parametrize("is_packed", [False, True])
def test_arc_files(tmp_path: Path, is_packed: bool) -> None:
    def record(url: str, kind: str, content: bytes) -> bytes:
        return f"{url} 192.0.2.1 20080430204825 {kind} {len(content)}\n".encode() + content + b"\n"

    about = record("filedesc://a.arc", "text/plain", b"1 0 InternetArchive\nURL IP-address Archive-date Content-type\n")
    parts = [
        about,
        record("http://example.org/1", "text/html", http("200 OK", "Content-Type: text/html\r\n", b"<p>one")),
        record("http://example.org/2", "text/html", http("404 Not Found", "Content-Type: text/html\r\n", b"<p>none")),
        record("http://example.org/3", "text/html", http("200 OK", "Content-Type: text/html\r\n", b"<p>three")),
    ]
    path = tmp_path / "a.arc"
    path.write_bytes(b"".join(gzip.compress(part) if is_packed else part for part in parts))
    documents, task = read(path)
    assert [(document.url, document.text) for document in documents] == [
        ("http://example.org/1", "<p>one"), ("http://example.org/3", "<p>three"),
    ]  # fmt: skip
    assert documents[0].metadata["date"] == "2008-04-30T20:48:25Z" and documents[0].id == f"a.arc:{len(parts[0])}"
    assert task.counts["read/dropped/status 404"] == 1 and task.faults == []
    path.write_bytes(path.read_bytes()[:-5])
    documents, task = read(path)
    # Of the packed file only the checksum is cut off: the page is there, and the fault too.
    assert len(documents) == (2 if is_packed else 1) and len(task.faults) == 1


@pytest.mark.parametrize("dictionary", ["none", "plain", "packed"])
def test_files_packed_with_zstandard(
    tmp_path: Path, make_record: Callable[..., bytes], members: list[bytes], dictionary: str
) -> None:
    records = [gzip.decompress(member) for member in members]
    path, shared, head = tmp_path / "a.warc.zst", None, b""
    if dictionary != "none":
        shared = zstandard.ZstdCompressionDict(b"".join(records[:2]), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        data = shared.as_bytes() if dictionary == "plain" else zstandard.compress(shared.as_bytes())
        head = b"\x5d\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data
    packed = [zstandard.ZstdCompressor(dict_data=shared).compress(record) for record in records]
    path.write_bytes(head + b"".join(packed))
    documents, task = read(path)
    assert numbers(documents) == list(range(12)) and task.faults == []
    assert [document.id for document in documents] == [f"a.warc.zst:{offset}" for offset in offsets(records)[:-1]]
    path.write_bytes(head + b"".join(packed[:8])[:-5])
    documents, task = read(path)
    assert numbers(documents)[:7] == list(range(7))
    assert "ends before its end mark" in task.faults[-1].error
    path.write_bytes(head[:-1] + b"".join(packed[:0]))
    assert read(path)[0] == []
