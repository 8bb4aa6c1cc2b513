"""WARC files of a crawl: response records that hold HTML or PDF.

fastwarc stops at a damaged member, and ends a cut file without a word. Here both are faults with file and byte offset:
the reader looks for the next intact member and goes on there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.readers.decoding import decode_page
from megatron_mimo.data.pipeline.readers.http_payload import BadPayload, TooLarge, http_payload
from megatron_mimo.data.pipeline.readers.pdf_files import pdf_document
from megatron_mimo.data.pipeline.readers.warc_members import first_broken_member, next_member
from megatron_mimo.data.pipeline.step import Task

HTML_TYPES = ("text/html", "application/xhtml+xml")
PDF_TYPES = ("application/pdf", "application/x-pdf")


@dataclass(kw_only=True)
class WarcReader(FileReader):
    """Documents are called `file:offset of the record`."""

    html: bool = True
    pdf: bool = True

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
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

    def _document(self, record: Any, file: InputFile, task: Task) -> Document | None:
        """The record's page, or None where it is none or could not be read (a fault)."""
        place = f"{file.path}:{record.stream_pos}"
        kind = _media_type(record)
        if not (self.html and kind == "text/html") and not (self.pdf and kind == "application/pdf"):
            task.count("read/other_records")
            return None
        if record.content_length > self.max_record_bytes:
            self.oversize(place, record.content_length, task)
            return None
        raw = record.reader.read()
        try:
            data = http_payload(raw, record.http_headers, self.max_record_bytes)
        except TooLarge:
            self.oversize(place, None, task)
            return None
        except BadPayload as error:
            task.fault(self.name, place, error)
            return None
        return _page(f"{file.name}:{record.stream_pos}", data, record, kind, task)


def _records(stream: BinaryIO, start: int) -> Iterator[tuple[int, Any]]:
    """Every record from byte `start` on, with its offset; the caller takes what it wants."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    stream.seek(start)
    for record in ArchiveIterator(stream, record_types=WarcRecordType.any_type, parse_http=True):
        yield record.stream_pos, record


def _media_type(record: Any) -> str:
    """`text/html` or `application/pdf` for a response that says so; empty for any other record."""
    from fastwarc.warc import WarcRecordType

    if record.record_type != WarcRecordType.response or not record.is_http or record.http_headers is None:
        return ""
    declared = (record.http_content_type or "").lower()
    if declared in HTML_TYPES:
        return "text/html"
    return "application/pdf" if declared in PDF_TYPES else ""


def _page(identifier: str, data: bytes, record: Any, kind: str, task: Task) -> Document:
    url = record.headers.get("WARC-Target-URI") or ""
    if kind == "application/pdf":
        document = pdf_document(identifier, data, url)
    else:
        text = decode_page(data, task, record.http_charset)
        document = Document(identifier, text, url=url, metadata={"media_type": kind})
    if record.headers.get("WARC-Truncated"):
        task.count("read/truncated_by_crawler")
    document.metadata["date"] = record.headers.get("WARC-Date") or ""
    return document
