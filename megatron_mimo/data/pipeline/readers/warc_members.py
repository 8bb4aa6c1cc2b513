"""The members of a WARC file: which is damaged, and where the next one begins."""

import io
import re
import zlib
from typing import BinaryIO

GZIP_MEMBER = b"\x1f\x8b\x08"
VERSION = b"WARC/1."
CHUNK_BYTES = 1 << 20
LONGEST_OUTPUT_BYTES = 1 << 20
LONGEST_HEADER_BYTES = 1 << 15
CONTENT_LENGTH = re.compile(rb"\r\nContent-Length:\s*(\d+)\r\n", re.IGNORECASE)


def first_broken_member(stream: BinaryIO, start: int) -> int | None:
    """Offset of the first member from `start` that is cut off, damaged, or no WARC record; None when all are whole.

    Of a file without compression the record at `start` alone is looked at: whether the file ends inside it.
    """
    stream.seek(start)
    head = stream.read(LONGEST_HEADER_BYTES)
    if head.startswith(VERSION):
        length = CONTENT_LENGTH.search(head)
        end = start + head.find(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
        return start if end > stream.seek(0, io.SEEK_END) else None
    if not head.startswith(GZIP_MEMBER):
        return None
    while (end := member_end(stream, start)) is not None:
        if end == start:
            return None
        start = end
    return start


def member_end(stream: BinaryIO, start: int) -> int | None:
    """Where the gzip member at `start` ends (`start` itself at the end of the file); None when it is not whole."""
    stream.seek(start)
    decoder = zlib.decompressobj(wbits=31)
    position, first = start, b""
    while chunk := stream.read(CHUNK_BYTES):
        position += len(chunk)
        while chunk:
            try:
                output = decoder.decompress(chunk, LONGEST_OUTPUT_BYTES)
            except zlib.error:
                return None
            first = first or output[: len(VERSION)]
            chunk = decoder.unconsumed_tail
        if decoder.eof:
            return position - len(decoder.unused_data) if first.startswith(VERSION[:5]) else None
    return start if position == start else None


def next_member(stream: BinaryIO, start: int) -> int | None:
    """Offset of the next record from `start` on that looks whole at its beginning, compressed or plain; or None."""
    stream.seek(start)
    base, window = start, b""
    while True:
        chunk = stream.read(CHUNK_BYTES)
        window += chunk
        for offset in _candidates(window):
            if _begins_record(stream, base + offset):
                return base + offset
        if not chunk:
            return None
        base, window = base + len(window) - len(VERSION), window[-len(VERSION) :]
        stream.seek(base + len(window))


def _candidates(window: bytes) -> list[int]:
    """Where a gzip member or a plain record might begin."""
    found = []
    for sign in (GZIP_MEMBER, b"\n" + VERSION):
        at = window.find(sign)
        while at >= 0:
            found.append(at + (sign[:1] == b"\n"))
            at = window.find(sign, at + 1)
    return sorted(found)


def _begins_record(stream: BinaryIO, offset: int) -> bool:
    """True when what is at `offset`, unpacked, begins with a WARC version."""
    stream.seek(offset)
    head = stream.read(4096)
    if head.startswith(VERSION):
        return True
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 64).startswith(VERSION)
    except zlib.error:
        return False
