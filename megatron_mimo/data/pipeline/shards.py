"""Documents between stages: folders of `00000.jsonl.zst`, one file per task, each whole or absent."""

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zstandard

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Document)
_COMPRESSED_BYTES_AT_ONCE = 1 << 15
"""So few that what comes out of them stays in the processor's cache."""
Record = TypeVar("Record")


def shard_path(folder: str | Path, index: int) -> Path:
    """The file of task `index`."""
    return Path(folder) / f"{index:05d}.jsonl.zst"


def shard_paths(folder: str | Path) -> list[Path]:
    """Every finished shard of a folder, in order."""
    return sorted(Path(folder).glob("[0-9]*.jsonl.zst"))


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of one shard; raises UserError where the file ends too early or is damaged."""
    return read_records(path, _decoder)


def read_records(path: Path, decoder: msgspec.json.Decoder[Record]) -> Iterator[Record]:
    """The same as records of the decoder's type: one with few fields is read faster."""
    number = 0
    try:
        for line in _lines(path):
            yield decoder.decode(line)
            number += 1
    except (zstandard.ZstdError, EOFError, msgspec.MsgspecError) as error:
        raise UserError(
            f"{path} is damaged after {number} documents ({error}); remove it and its marker, and run again"
        ) from error


def _lines(path: Path) -> Iterator[bytes]:
    open_line: list[bytes] = []
    for chunk in _decompressed(path):
        first, *others = chunk.split(b"\n")
        open_line.append(first)
        if others:
            yield b"".join(open_line)
            yield from others[:-1]
            open_line = others[-1:]
    if last := b"".join(open_line):
        yield last


def _decompressed(path: Path) -> Iterator[bytes]:
    """The content of a file that must end where its frame does: the library's own reader takes a cut one for short."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as file:
        while compressed := file.read(_COMPRESSED_BYTES_AT_ONCE):
            yield decompressor.decompress(compressed)
    if not decompressor.eof:
        raise EOFError("it ends inside a frame")
    if decompressor.unused_data:
        raise EOFError("it goes on after its frame")


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write one shard and return its number of documents; the file appears under its name when it is complete."""
    with ShardWriter(path) as writer:
        for document in documents:
            writer.write(document)
    return writer.number


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of this shard have left; one that still lives fails at its end, without harm."""
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


class ShardWriter:
    """JSON lines into one shard; left by an exception, it leaves nothing.

    The temporary name is the process's own: of two processes at the same task (one given up too early), each writes a
    whole file, and both files are equal.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self._temporary = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")

    def __enter__(self) -> "ShardWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = zstandard.open(self._temporary, "wb", cctx=zstandard.ZstdCompressor(level=3))
        return self

    def write(self, record: Document | dict[str, Any]) -> None:
        self._file.write(_encoder.encode(record) + b"\n")
        self.number += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._temporary, self.path)
        else:
            self._temporary.unlink(missing_ok=True)
