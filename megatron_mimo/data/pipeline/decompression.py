"""Streams of .gz and .zst that say where they break: Python's readers end a cut zstd stream without a word."""

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import zstandard

CHUNK_BYTES = 1 << 16
"""Small: a chunk of a compression bomb swells a thousandfold."""
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BrokenStream(Exception):
    """Compressed data that is cut off or damaged; `offset` counts compressed bytes."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset


def decompressed(stream: BinaryIO) -> Iterator[bytes]:
    """Chunks of the content, whatever it is packed in; raises BrokenStream after what was whole."""
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(GZIP_MAGIC):
        yield from frames(stream, lambda: zlib.decompressobj(wbits=31))
    elif head == ZSTD_MAGIC:
        yield from frames(stream, lambda: zstandard.ZstdDecompressor().decompressobj())
    else:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def frames(stream: BinaryIO, new_decoder: Any) -> Iterator[bytes]:
    """The content of gzip members or zstd frames, one after another, from where the stream is."""
    decoder, pending, started = new_decoder(), b"", False
    while True:
        data = pending or stream.read(CHUNK_BYTES)
        pending = b""
        if not data:
            break
        offset = stream.tell() - len(data)
        if not started and not data.strip(b"\0"):
            continue  # padding after the last member
        try:
            chunk = decoder.decompress(data)
        except (zlib.error, zstandard.ZstdError) as error:
            raise BrokenStream(offset, str(error)) from error
        started = True
        if decoder.eof:
            pending, decoder, started = decoder.unused_data, new_decoder(), False
        if chunk:
            yield chunk
    if started:
        raise BrokenStream(stream.tell(), "the compressed stream ends before its end mark")


def decompressed_lines(stream: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """`(offset in the content, line)` without line ends; None for a line over `max_bytes`, which is passed over."""
    start, length, rest = 0, 0, b""  # length of the line so far; its bytes are in rest unless it is too long
    for chunk in decompressed(stream):
        lines = chunk.split(b"\n")
        for index, part in enumerate(lines):
            length += len(part)
            rest = rest + part if length <= max_bytes else b""
            if index < len(lines) - 1:
                yield start, rest if length <= max_bytes else None
                start, length, rest = start + length + 1, 0, b""
    if length:
        yield start, rest if length <= max_bytes else None
