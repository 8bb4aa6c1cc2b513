"""ARC files, the Internet Archive's form before WARC: a line `URL IP date type length`, then the response."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from megatron_mimo.data.pipeline.decompression import BrokenStream, decompressed

_LINE = re.compile(rb"(\S+) (\S+) (\d{14}) (\S+) (?:.* )?(\d+)\r?\n")
_MAX_LINE_BYTES = 1 << 14


@dataclass(slots=True)
class ArcRecord:
    """One response, its bytes as the server sent them, or None when it is larger than the limit."""

    url: str
    date: str
    """`YYYY-MM-DDThh:mm:ssZ`"""
    content_type: str
    content: bytes | None
    size_bytes: int
    offset: int
    """In the unpacked file."""


def is_arc(stream: BinaryIO) -> bool:
    """Whether the file, packed or not, begins as an ARC file does; the stream is left at its start."""
    stream.seek(0)
    try:
        head = next(decompressed(stream), b"")
    except (BrokenStream, OSError):
        head = b""
    stream.seek(0)
    return head.startswith(b"filedesc:")


def arc_records(stream: BinaryIO, max_bytes: int) -> Iterator[ArcRecord]:
    """Every record but the file's description; raises BrokenStream or EOFError at damage, ValueError at a bad line."""
    content = _Content(decompressed(stream))
    while line := content.line():
        if not line.strip():
            continue
        offset = content.offset - len(line)
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"no ARC record at byte {offset} of the unpacked file")
        url, _, date, content_type, length = (part.decode("latin-1") for part in match.groups())
        size = int(length)
        body = content.take(size, keep=size <= max_bytes)
        if not url.startswith("filedesc:"):
            yield ArcRecord(url, _iso(date), content_type.lower(), body, size, offset)


class _Content:
    """Lines and pieces of a stream of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.pending = b""
        self.offset = 0

    def line(self) -> bytes:
        """The next line; empty at the end."""
        while (end := self.pending.find(b"\n") + 1) == 0 and len(self.pending) < _MAX_LINE_BYTES and self._more():
            pass
        return self._cut(end or len(self.pending))

    def take(self, size: int, keep: bool) -> bytes | None:
        """The next `size` bytes, or None where they are not to be kept; raises EOFError when there are fewer."""
        parts, left = [], size
        while left:
            if not self.pending and not self._more():
                raise EOFError(f"the file ends inside the record before byte {self.offset + left}")
            part = self._cut(min(left, len(self.pending)))
            left -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts) if keep else None

    def _more(self) -> bool:
        chunk = next(self.chunks, b"")
        self.pending += chunk
        return bool(chunk)

    def _cut(self, size: int) -> bytes:
        part, self.pending = self.pending[:size], self.pending[size:]
        self.offset += size
        return part


def _iso(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z"
