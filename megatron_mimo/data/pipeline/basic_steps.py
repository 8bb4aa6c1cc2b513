"""Steps that need nothing but the documents: exact repetitions, order, held-out split, length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document, digest, is_held_out
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class ExactDedup:
    """Drop empty documents and exact repetitions of an earlier text of the same task (32 bytes per document in memory).

    Over several tasks, repetitions are found by the `dedup` stage.
    """

    name: ClassVar[str] = "exact_dedup"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        seen: set[bytes] = set()
        for document in documents:
            key = digest(document.text)
            if not document.text.strip():
                task.drop(document, self.name, "empty")
            elif key in seen:
                task.drop(document, self.name, "repetition")
            else:
                seen.add(key)
                yield document


@dataclass(kw_only=True)
class Shuffle:
    """Put the documents of a task, which must fit in memory, in the order of their texts' hashes."""

    name: ClassVar[str] = "shuffle"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        yield from sorted(documents, key=lambda document: digest(document.text))


@dataclass(kw_only=True)
class HoldOut:
    """Give about `valid_share` of the documents, chosen by the hash of their text, to the valid split."""

    name: ClassVar[str] = "hold_out"
    valid_share: float = 0.002

    def __post_init__(self) -> None:
        if not 0 <= self.valid_share < 1:
            raise ConfigError("valid_share", self.valid_share, "must be in [0, 1)")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            document.split = "valid" if is_held_out(document.text, self.valid_share) else "train"
            yield document


@dataclass(kw_only=True)
class Length:
    """Drop texts outside a range of characters."""

    name: ClassVar[str] = "length"
    min_characters: int = 1
    max_characters: int | None = None

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            size = len(document.text.strip())
            if size < self.min_characters:
                task.drop(document, self.name, "too short")
            elif self.max_characters is not None and size > self.max_characters:
                task.drop(document, self.name, "too long")
            else:
                yield document
