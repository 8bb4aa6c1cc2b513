"""Documents between stages: folders of `00000.jsonl.zst`, one file a task, each whole or absent."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import zstandard

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
    """The documents of one shard."""
    with zstandard.open(path, "rb") as lines:
        for line in io.BufferedReader(lines):  # type: ignore[arg-type]  # the reader alone has no readline
            yield _decoder.decode(line)


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write one shard and return its number of documents; the file appears under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    number = 0
    with zstandard.open(temporary, "wb", cctx=zstandard.ZstdCompressor(level=3)) as file:
        for number, document in enumerate(documents, start=1):  # noqa: B007
            file.write(_encoder.encode(document) + b"\n")
    os.replace(temporary, path)
    return number
