"""The stages that read the documents: keys of their URLs, then keys and signatures of their texts."""

import hashlib
import os
import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from megatron_mimo.data.dedup.minhash import is_empty
from megatron_mimo.data.dedup.runs import RunWriter, merge
from megatron_mimo.data.dedup.urls import canonical_url
from megatron_mimo.data.dedup.work import (
    BADNESS,
    BANDS,
    TEXTS,
    URL,
    URLS,
    WINNERS,
    Work,
    badness,
    text_hashes_path,
)
from megatron_mimo.data.pipeline.shards import read_records, shard_path
from megatron_mimo.data.pipeline.step import Task

try:
    from megatron_mimo.data.dedup._minhash import without_white_space  # type: ignore[attr-defined]  # built by setup.py
except ImportError:

    def without_white_space(text: str) -> bytes:
        """UTF-8 (lone surrogates too) of the text without ASCII white space."""
        return _utf8(text).translate(None, string.whitespace.encode())


BATCH_CHARACTERS = 2**20
BATCH_DOCUMENTS = 1024


class Keyed(msgspec.Struct):
    """What deduplication needs of a document: nothing else is decoded."""

    text: str
    url: str = ""


class Scored(Keyed):
    """The same, where the best copy is chosen by its metadata."""

    metadata: dict[str, Any] = {}


Batch = tuple[np.ndarray, list[Keyed]]
"""Numbers, uint64 [n], and documents."""
_keyed, _scored = msgspec.json.Decoder(Keyed), msgspec.json.Decoder(Scored)


def key_urls(work: Work, task: Task) -> None:
    """Stage over shards: hash, badness and number of every document that has a URL."""
    writer = RunWriter(work.file(URLS, task.index), 3, work.config.memory_bytes)
    for numbers, documents in _batches(work, task.index):
        keys = _hashes(_utf8(canonical_url(document.url)) for document in documents)
        has_url = np.array([bool(document.url.strip()) for document in documents])
        bad = badness(_qualities(documents, work.config.quality))
        writer.add(keys[has_url], bad[has_url], numbers[has_url])
    writer.close()


def key_texts(work: Work, task: Task) -> None:
    """Stage over shards: text hash and band keys of documents whose URL is no duplicate; badness and hash of all."""
    texts = RunWriter(work.file(TEXTS, task.index), 3, work.config.memory_bytes // 4)
    bands = RunWriter(work.file(BANDS, task.index), 2, work.config.memory_bytes * 3 // 4)
    duplicates = _UrlDuplicates(work, task.index)
    with (
        _by_position(work.file(BADNESS, task.index)) as badness_file,
        _by_position(text_hashes_path(work.folder, work.first_shard + task.index)) as hashes_file,
    ):
        for numbers, documents in _batches(work, task.index):
            bad = badness(_qualities(documents, work.config.quality))
            hashes = text_hashes(document.text for document in documents)
            badness_file.write(bad.astype("<u8").tobytes())
            hashes_file.write(hashes.astype("<u8").tobytes())
            new = ~duplicates.among(numbers)
            chosen = [document.text for document, is_new in zip(documents, new, strict=True) if is_new]
            texts.add(hashes[new], bad[new], numbers[new])
            bands.add(*_band_keys(work, chosen, numbers[new]))
            task.count("dedup/documents", len(documents))
    texts.close()
    bands.close()


@contextmanager
def _by_position(path: Path) -> Iterator[BinaryIO]:
    """A file of one number per document, under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
    os.replace(temporary, path)


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """uint64 [n] of what the texts hold besides ASCII white space: re-flowed and re-indented copies are the same.

    Of 10**10 different texts some three pairs share a hash by chance.
    """
    return _hashes(map(without_white_space, texts))


def _hashes(contents: Iterable[bytes]) -> np.ndarray:
    data = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(data, "<u8").astype(np.uint64)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _UrlDuplicates:
    """Walks along a shard's documents and the sorted numbers of those that are dropped for their URL."""

    def __init__(self, work: Work, shard: int) -> None:
        low, high = work.first_number(shard), work.first_number(shard + 1)
        self._blocks = merge(work.files(WINNERS[URL]), 4, low, high, work.config.memory_bytes // 4)
        self._dropped = np.zeros(0, np.uint64)
        self._open = True

    def among(self, numbers: np.ndarray) -> np.ndarray:
        """bool [n] for the shard's next documents."""
        while self._open and (not len(self._dropped) or self._dropped[-1] < numbers[-1]):
            block = next(self._blocks, None)
            self._open = block is not None
            if block is not None:
                self._dropped = np.concatenate([self._dropped, block[block[:, 3] == 0, 0]])
        end = int(np.searchsorted(self._dropped, numbers[-1], "right"))
        found = np.isin(numbers, self._dropped[:end])
        self._dropped = self._dropped[end:]
        return found


def _batches(work: Work, shard: int) -> Iterator[Batch]:
    documents: list[Keyed] = []
    characters, start = 0, work.first_number(shard)
    decoder: msgspec.json.Decoder[Any] = _scored if work.config.quality else _keyed
    for document in read_records(shard_path(work.input_folder, shard), decoder):
        documents.append(document)
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS or len(documents) == BATCH_DOCUMENTS:
            yield _with_numbers(start, documents)
            characters, start, documents = 0, start + len(documents), []
    if documents:
        yield _with_numbers(start, documents)


def _with_numbers(start: int, documents: list[Keyed]) -> Batch:
    return np.arange(start, start + len(documents), dtype=np.uint64), documents


def _band_keys(work: Work, texts: list[str], numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One record a key and document; texts without tokens have none."""
    signatures = work.config.scheme.signatures(texts)
    filled = ~is_empty(signatures)
    keys = work.config.scheme.band_keys(signatures[filled])
    return keys.ravel(), np.repeat(numbers[filled], work.config.scheme.num_keys)


def _qualities(documents: list[Keyed], key: str) -> list[float]:
    """The number in the metadata, or the length of the text."""
    if not key:
        return [len(document.text) for document in documents]
    values = (document.metadata.get(key) for document in documents if isinstance(document, Scored))
    return [float(value) if isinstance(value, int | float) else float("nan") for value in values]
