"""Documents between stages: folders of `00000.jsonl.zst`, one file a task, each whole or absent."""

import io
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Document)


def shard_path(folder: str | Path, index: int) -> Path:
    """The file of task `index`."""
    return Path(folder) / f"{index:05d}.jsonl.zst"


def shard_paths(folder: str | Path) -> list[Path]:
    """Every finished shard of a folder, in order."""
    return sorted(Path(folder).glob("[0-9]*.jsonl.zst"))


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of one shard; raises UserError where the file ends too early or is damaged."""
    number = 0
    try:
        with path.open("rb") as file:
            for line in io.BufferedReader(_WholeFrame(file)):
                yield _decoder.decode(line)
                number += 1
    except (zstandard.ZstdError, EOFError, msgspec.MsgspecError) as error:
        raise UserError(
            f"{path} is damaged after {number} documents ({error}); remove it and its marker, and run again"
        ) from error


class _WholeFrame(io.RawIOBase):
    """A zstd file that must end where its frame does: the library's own reader takes a cut file for a short one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decompressor = file, zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            compressed = self._file.read(1 << 20)
            if not compressed:
                if not self._decompressor.eof:
                    raise EOFError("it ends inside a frame")
                return 0
            self._ready = memoryview(self._decompressor.decompress(compressed))
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


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
