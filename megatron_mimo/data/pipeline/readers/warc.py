"""Archives of a crawl, WARC and ARC: responses and resources that hold HTML or PDF, and the texts of WET files.

WARC files are plain, or packed record by record with gzip or Zstandard (`warc_zstd`).

fastwarc stops at a damaged member, and ends a cut file without a word. Here both are faults with file and byte offset:
the reader looks for the next intact member and continues there. Responses without success (404, 301) are dropped with
their status as the reason. A missing `Content-Type` is made up for by how the content begins.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.readers.arc import arc_records, is_arc
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.readers.decoding import decode_page
from megatron_mimo.data.pipeline.readers.http_payload import BadPayload, TooLarge, http_payload, split_response
from megatron_mimo.data.pipeline.readers.pdf_files import pdf_document
from megatron_mimo.data.pipeline.readers.warc_members import first_broken_member, next_member
from megatron_mimo.data.pipeline.readers.warc_zstd import is_zstd, unpacked
from megatron_mimo.data.pipeline.step import Task

HTML_TYPES = ("text/html", "application/xhtml+xml")
PDF_TYPES = ("application/pdf", "application/x-pdf")
_HTML_START = re.compile(
    rb"<!--|<(?:!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link)[\s/>]"
)
"""As browsers tell HTML without a type (mimesniff.spec.whatwg.org, 7.1), and two elements more."""


@dataclass
class _Content:
    """What a record holds: its bytes, what kind of content it says it is, and how it came."""

    place: str
    identifier: str
    url: str
    date: str
    declared: str
    """The media type in lower case; empty where none is given."""
    charset: str | None
    raw: bytes
    headers: Any
    """Of the HTTP response; an empty dict for what came otherwise."""
    status: int | None = None


@dataclass(kw_only=True)
class WarcReader(FileReader):
    """Documents are called `file:offset of the record`, in ARC and `.zst` files by the offset in the unpacked file."""

    html: bool = True
    pdf: bool = True
    text: bool = True
    """The plain texts of WET files (`conversion` records), with `media_type: text/plain`."""
    statuses: list[int] = field(default_factory=lambda: [200, 203, 206])
    """HTTP status codes of responses that are kept; the others are dropped as `status CODE`."""

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        if is_arc(stream):
            yield from self._read_arc(file, stream, task)
        elif is_zstd(stream):
            with unpacked(stream) as (plain, error):
                yield from self._read_warc(file, plain, task)
            if error is not None:
                raise error
        else:
            yield from self._read_warc(file, stream, task)

    def _read_warc(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        start: int | None = 0
        while start is not None:
            position = start
            error: OSError | None = None
            try:
                for position, record in _records(stream, start):  # noqa: B007
                    document = self._document(record, file, task)
                    if document is not None:
                        yield document
            except OSError as caught:
                error = caught
            broken = first_broken_member(stream, position)
            if broken is None and error is None:
                return
            offset = position if broken is None else broken
            task.fault(self.name, f"{file.path}:{offset}", error or "the file ends inside this record")
            start = next_member(stream, offset + 1)

    def _read_arc(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        try:
            for record in arc_records(stream, self.max_record_bytes):
                place, identifier = f"{file.path}:{record.offset}", f"{file.name}:{record.offset}"
                if record.content is None:
                    self.oversize(place, record.size_bytes, task)
                    continue
                status, headers, raw = split_response(record.content) or (None, {}, record.content)
                declared, charset = _type_and_charset(headers.get("Content-Type") or record.content_type)
                content = _Content(
                    place, identifier, record.url, record.date, declared, charset, raw, headers, status
                )  # fmt: skip
                document = self._take(content, task)
                if document is not None:
                    yield document
        except (EOFError, ValueError) as error:
            task.fault(self.name, file.path, error)

    def _document(self, record: Any, file: InputFile, task: Task) -> Document | None:
        """The record's page or text, or None where it is none or could not be read (a fault)."""
        place = f"{file.path}:{record.stream_pos}"
        if not _is_wanted(record, self.text):
            task.count("read/other_records")
            return None
        if record.content_length > self.max_record_bytes:
            self.oversize(place, record.content_length, task)
            return None
        content = _content(record, place, f"{file.name}:{record.stream_pos}")
        if record.headers.get("WARC-Truncated"):
            task.count("read/truncated_by_crawler")
        if _record_kind(record) == "conversion":
            return _text_document(content, task)
        return self._take(content, task)

    def _take(self, content: _Content, task: Task) -> Document | None:
        if content.status is not None and content.status not in self.statuses:
            document = Document(content.identifier, "", url=content.url, metadata={"date": content.date})
            task.drop(document, self.name, f"status {content.status}")
            return None
        if not self._kind(content.declared, b"") and not _is_unknown(content.declared):
            task.count("read/other_records")
            return None
        try:
            data, is_cut = http_payload(content.raw, content.headers, self.max_record_bytes)
        except TooLarge:
            self.oversize(content.place, None, task)
            return None
        except BadPayload as error:
            task.fault(self.name, content.place, error)
            return None
        kind = self._kind(content.declared, data)
        if not kind:
            task.count("read/other_records")
            return None
        if is_cut:
            task.count("read/cut_bodies")
        return _page(content, data, kind, task)

    def _kind(self, declared: str, data: bytes) -> str:
        """`text/html` or `application/pdf` for what is wanted; empty for any other content."""
        if _is_unknown(declared):
            declared = _sniffed(data)
        if declared in HTML_TYPES:
            return "text/html" if self.html else ""
        return "application/pdf" if self.pdf and declared in PDF_TYPES else ""


def _records(stream: BinaryIO, start: int) -> Iterator[tuple[int, Any]]:
    """Every record from byte `start` on, with its offset; the caller takes what it wants."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    stream.seek(start)
    for record in ArchiveIterator(stream, record_types=WarcRecordType.any_type, parse_http=True):
        yield record.stream_pos, record


def _record_kind(record: Any) -> str:
    return (record.headers.get("WARC-Type") or "").lower()


def _is_wanted(record: Any, is_text_wanted: bool) -> bool:
    kind = _record_kind(record)
    return kind in ("response", "resource") or (kind == "conversion" and is_text_wanted)


def _content(record: Any, place: str, identifier: str) -> _Content:
    url, date = record.headers.get("WARC-Target-URI") or "", record.headers.get("WARC-Date") or ""
    raw = record.reader.read()
    if record.is_http and record.http_headers is not None:
        declared, charset = (record.http_content_type or "").lower(), record.http_charset
        status = record.http_headers.status_code
        return _Content(place, identifier, url, date, declared, charset, raw, record.http_headers, status)
    response = split_response(raw) if _record_kind(record) == "response" else None
    if response is not None:  # the record does not say that it is HTTP
        status, headers, raw = response
        declared, charset = _type_and_charset(headers.get("Content-Type") or "")
        return _Content(place, identifier, url, date, declared, charset, raw, headers, status)
    declared, charset = _type_and_charset(record.headers.get("Content-Type") or "")
    return _Content(place, identifier, url, date, declared, charset, raw, {})


def _type_and_charset(value: str) -> tuple[str, str | None]:
    media_type, _, rest = value.lower().partition(";")
    _, found, charset = rest.partition("charset=")
    return media_type.strip(), charset.split(";")[0].strip(" \"'") if found else None


def _is_unknown(declared: str) -> bool:
    return declared in ("", "no-type", "unknown", "unknown/unknown", "application/octet-stream", "unk")


def _sniffed(data: bytes) -> str:
    """The media type of content that does not say it, from its beginning."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"%pdf-"):
        return "application/pdf"
    is_html = bool(_HTML_START.match(head)) or (head.startswith(b"<?xml") and b"<html" in head)
    return "text/html" if is_html else ""


def _text_document(content: _Content, task: Task) -> Document:
    text = decode_page(content.raw, task, content.charset)
    return Document(
        content.identifier, text, url=content.url, metadata={"media_type": "text/plain", "date": content.date}
    )


def _page(content: _Content, data: bytes, kind: str, task: Task) -> Document:
    if kind == "application/pdf":
        document = pdf_document(content.identifier, data, content.url)
    else:
        text = decode_page(data, task, content.charset)
        document = Document(content.identifier, text, url=content.url, metadata={"media_type": kind})
    document.metadata["date"] = content.date
    return document
