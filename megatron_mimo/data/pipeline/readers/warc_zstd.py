"""WARC files packed with Zstandard (`.warc.zst`): frames of records, after a dictionary that they may share.

The form is IIPC's: a skippable frame of the kind 0x184D2A5D holds the dictionary, itself packed or plain; each record
is a frame of its own. The file is unpacked into a temporary one, so that the reader can look for whole records after
damage as it does in plain files.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import zstandard

from megatron_mimo.data.pipeline.decompression import ZSTD_MAGIC, BrokenStream, frames

DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
_LONGEST_DICTIONARY_BYTES = 1 << 27


def is_zstd(stream: BinaryIO) -> bool:
    """Whether the file is packed with Zstandard; the stream is left at its start."""
    head = stream.read(4)
    stream.seek(0)
    return head in (ZSTD_MAGIC, DICTIONARY_MAGIC)


@contextmanager
def unpacked(stream: BinaryIO) -> Iterator[tuple[BinaryIO, BrokenStream | None]]:
    """The content as a seekable file, and where the packed file breaks (what was whole before is there)."""
    dictionary = _dictionary(stream)
    error: BrokenStream | None = None
    with tempfile.TemporaryFile() as target:
        try:
            for chunk in frames(stream, lambda: zstandard.ZstdDecompressor(dict_data=dictionary).decompressobj()):
                target.write(chunk)
        except BrokenStream as caught:
            error = caught
        target.seek(0)
        yield target, error


def _dictionary(stream: BinaryIO) -> zstandard.ZstdCompressionDict | None:
    """The dictionary before the first record, which the stream is left at; raises BrokenStream where it is cut."""
    if stream.read(4) != DICTIONARY_MAGIC:
        stream.seek(0)
        return None
    size = int.from_bytes(stream.read(4), "little")
    data = stream.read(size) if size <= _LONGEST_DICTIONARY_BYTES else b""
    if len(data) < size:
        raise BrokenStream(0, "the file's dictionary is cut or too large")
    if data.startswith(ZSTD_MAGIC):
        try:
            data = zstandard.ZstdDecompressor().decompress(data, _LONGEST_DICTIONARY_BYTES)
        except zstandard.ZstdError as error:
            raise BrokenStream(0, f"the file's dictionary: {error}") from error
    return zstandard.ZstdCompressionDict(data)
