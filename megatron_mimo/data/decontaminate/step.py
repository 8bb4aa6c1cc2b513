"""The pipeline's step: drop documents that share an n-gram with a benchmark, and note what matched what."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from megatron_mimo.config import ConfigError
from megatron_mimo.data.decontaminate.index import NgramIndex, load_index
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

METADATA_KEY = "contamination"
RECORDED_MATCHES = 5
"""Benchmark texts named in a document's metadata at most."""


@dataclass(kw_only=True)
class Decontaminate:
    """Finds documents with an n-gram of the benchmarks; `metadata["contamination"]` lists benchmark, item, n-gram."""

    name: ClassVar[str] = "decontaminate"
    index: str
    """Folder made by `megatron-mimo decontaminate`."""
    action: Literal["drop", "mark"] = "drop"
    """`mark` lets the documents continue, with what matched in their metadata."""
    match_short: bool = True
    """Also find benchmark texts that are shorter than an n-gram, where they are the whole document."""

    def __post_init__(self) -> None:
        if self.action not in ("drop", "mark"):
            raise ConfigError("action", self.action, "must be drop or mark")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield clean documents; others are dropped as `in BENCHMARK`, the first benchmark that they match."""
        index = _loaded(self.index)
        for document in documents:
            matches = index.find(document.text, self.match_short)
            for benchmark in dict.fromkeys(match.benchmark for match in matches):
                task.count(f"{self.name}/matched/{benchmark}")
            if matches:
                document.metadata[METADATA_KEY] = [dataclasses.asdict(match) for match in matches[:RECORDED_MATCHES]]
            if matches and self.action == "drop":
                task.drop(document, self.name, f"in {matches[0].benchmark}")
            else:
                yield document


@functools.lru_cache(maxsize=2)
def _loaded(folder: str) -> NgramIndex:
    """One copy a process, however many steps and tasks it runs."""
    return load_index(folder)
