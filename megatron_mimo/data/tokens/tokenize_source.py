"""From a source's documents to its two `.bin/.idx` pairs and held-out texts, in this process or in several.

Documents are encoded in blocks; worker processes take whole blocks (embedded and JSON-lines sources, read here) or
whole shards (read there). Shards become finished parts first, so an interrupted run keeps those it has. What is
written depends on the documents and the tokenizer alone, not on blocks, workers or interruptions.
"""

import dataclasses
import functools
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import dacite

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document, Split
from megatron_mimo.data.tokens.encoder import Encoder, TokenBlock, shared_encoder
from megatron_mimo.data.tokens.indexed_writer import IndexedWriter
from megatron_mimo.data.tokens.manifest import SourceEntry, check_split
from megatron_mimo.data.tokens.sources import SourceConfig, shard_documents, source_documents, source_files
from megatron_mimo.platform.files import write_json

Item = TypeVar("Item")
Result = TypeVar("Result")
SPLITS: tuple[Split, Split] = ("train", "valid")
BLOCK_DOCUMENTS = 1000
BLOCK_CHARACTERS = 4_000_000
"""A block is full at either limit."""


@dataclass(frozen=True)
class TokenizeJob:
    """What the workers of one data folder share."""

    folder: Path
    tokenizer: Path
    """Folder of the tokenizer."""
    tokenizer_sha256: str
    recipe_sha256: str
    """Parts made by another recipe are made anew."""
    num_workers: int = 0
    """Worker processes; 0 works in this one, with the tokenizer's threads."""

    @property
    def encoder(self) -> Encoder:
        """The encoder of the process that asks."""
        return shared_encoder(self.tokenizer, self.tokenizer_sha256)


@dataclass(frozen=True)
class EncodedBlock:
    """A block of documents: tokens and size of the text by split, and the lines of the held-out texts."""

    tokens: dict[Split, TokenBlock]
    text_bytes: dict[Split, int]
    held_out: bytes


def tokenize_source(source: SourceConfig, job: TokenizeJob) -> SourceEntry:
    """Write `NAME_{train,valid}.{bin,idx}` and `heldout/text/NAME.jsonl`; returns the manifest's entry.

    Raises UserError on unreadable input, or when a worker is killed: a later call continues with the finished parts.
    """
    writer = SourceWriter(job.folder, source.name, held_out_path(job.folder, source.name), job.encoder.vocab_size)
    if source.shards is None:
        encode = functools.partial(encode_block, job)
        for block in ordered_map(encode, blocks(source_documents(source)), job.num_workers):
            writer.add(block)
    else:
        shards = [Path(path) for path in source_files(source)]
        write = functools.partial(write_part, source, job)
        for folder in ordered_map(write, list(enumerate(shards)), job.num_workers):
            writer.append(folder, _read_part(folder, job.recipe_sha256))
    return writer.finish(source.domain)


def remove_parts(source: SourceConfig, job: TokenizeJob) -> None:
    """Delete a finished source's parts."""
    shutil.rmtree(job.folder / "parts" / source.name, ignore_errors=True)


def held_out_path(folder: Path, source: str) -> Path:
    """The held-out texts of a source, one JSON object per line."""
    return folder / "heldout" / "text" / f"{source}.jsonl"


class SourceWriter:
    """The files of one source, or of a part of one, in the making; they appear under their names at `finish`."""

    def __init__(self, folder: Path, name: str, held_out: Path, vocab_size: int) -> None:
        self._writers: dict[Split, IndexedWriter] = {
            split: IndexedWriter(folder / f"{name}_{split}", vocab_size) for split in SPLITS
        }
        self._held_out = held_out
        held_out.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = held_out.with_name(f"{held_out.name}.tmp")
        self._lines = self._temporary.open("wb")

    def add(self, block: EncodedBlock) -> None:
        """Append a block of documents."""
        for split, writer in self._writers.items():
            writer.add(block.tokens[split], block.text_bytes[split])
        self._lines.write(block.held_out)

    def append(self, folder: Path, entry: SourceEntry | None) -> None:
        """Append the finished part in `folder`."""
        if entry is None:
            raise UserError(f"{folder} was damaged while it was read: run again, only that part is made anew")
        self._writers["train"].append(folder, entry.train)
        self._writers["valid"].append(folder, entry.valid)
        with (folder / "heldout.jsonl").open("rb") as lines:
            shutil.copyfileobj(lines, self._lines)

    def finish(self, domain: str) -> SourceEntry:
        """Give the files their names."""
        self._lines.close()
        os.replace(self._temporary, self._held_out)
        entries = {split: writer.finish() for split, writer in self._writers.items()}
        return SourceEntry(domain=domain, train=entries["train"], valid=entries["valid"])


def blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents into blocks, in order."""
    block: list[Document] = []
    characters = 0
    for document in documents:
        block.append(document)
        characters += len(document.text)
        if len(block) == BLOCK_DOCUMENTS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def encode_block(job: TokenizeJob, documents: list[Document]) -> EncodedBlock:
    """Encode a block in the process that calls."""
    texts: dict[Split, list[str]] = {"train": [], "valid": []}
    for document in documents:
        texts[document.split].append(document.text)
    held_out = [document for document in documents if document.split == "valid"]
    return EncodedBlock(
        tokens={split: job.encoder.encode(some) for split, some in texts.items()},
        text_bytes={split: sum(len(text.encode()) for text in some) for split, some in texts.items()},
        held_out=b"".join(_held_out_line(document) for document in held_out),
    )


def _held_out_line(document: Document) -> bytes:
    return (json.dumps({"id": document.id, "text": document.text}, ensure_ascii=False) + "\n").encode()


def write_part(source: SourceConfig, job: TokenizeJob, numbered_shard: tuple[int, Path]) -> Path:
    """Tokenize one shard into its own folder, unless that is done already, and return the folder."""
    number, shard = numbered_shard
    folder = job.folder / "parts" / source.name / f"{number:05d}"
    if _read_part(folder, job.recipe_sha256) is None:
        writer = SourceWriter(folder, "part", folder / "heldout.jsonl", job.encoder.vocab_size)
        for block in blocks(shard_documents(source, shard)):
            writer.add(encode_block(job, block))
        entry = dataclasses.asdict(writer.finish(source.domain))
        write_json(folder / "part.json", {"recipe_sha256": job.recipe_sha256, "entry": entry})
    return folder


def _read_part(folder: Path, recipe_sha256: str) -> SourceEntry | None:
    """The entry of a part that is complete, sound and of this recipe, or None."""
    try:
        part = json.loads((folder / "part.json").read_text())
        if part["recipe_sha256"] != recipe_sha256:
            return None
        entry = dacite.from_dict(SourceEntry, part["entry"])
        for split in SPLITS:
            check_split(folder, entry, split, verify=True)
        return entry
    except (OSError, ValueError, KeyError, dacite.DaciteError, UserError):
        return None


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], num_workers: int) -> Iterator[Result]:
    """`map` in worker processes: results in order, at most two items a worker under way.

    Raises UserError when a worker is killed.
    """
    if not num_workers:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        pending = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a tokenizing process was killed, perhaps for want of memory: run the same command again (finished parts"
            " are kept), with a smaller num_workers where memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Workers are the parallelism: the tokenizers' own threads would only compete."""
    os.environ["RAYON_NUM_THREADS"] = "1"
