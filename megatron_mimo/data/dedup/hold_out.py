"""The step that holds out whole clusters of similar documents: no training document resembles a held-out one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.data.dedup.decisions import with_decisions
from megatron_mimo.data.dedup.keys import text_hashes
from megatron_mimo.data.dedup.work import POSITION_BITS, text_hashes_path
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

NEAR_HELD_OUT = "near duplicate of a held-out document"
NEAR_EARLIER = "near duplicate of an earlier run's document"


@dataclass(kw_only=True)
class HoldOutClusters:
    """Gives about `valid_share` of the clusters of a deduplication to the valid split.

    The hash of the text of a cluster's best document decides. That document is held out, the others of its cluster are
    dropped; clusters that are not held out stay whole, for training. The shard `task.index` must be read in full and
    in order: first step of its stage. A looser deduplication than the one that drops repetitions (fewer `rows`) keeps
    more distance between the splits.
    """

    name: ClassVar[str] = "hold_out_clusters"
    clusters: str
    """Folder of a deduplication of the same shards (`stage:NAME`)."""
    valid_share: float = 0.002

    def __post_init__(self) -> None:
        if not self.clusters:
            raise ConfigError("hold_out_clusters.clusters", self.clusters, "give the folder of a deduplication")
        if not 0 <= self.valid_share < 1:
            raise ConfigError("valid_share", self.valid_share, "must be in [0, 1)")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield the documents that stay, with their split; raises UserError on a shard that was not deduplicated."""
        hashes = _TextHashes(self.clusters)
        for document, best, _, is_dropped in with_decisions(Path(self.clusters) / "decisions", documents, task):
            decides = hashes.of(best) if is_dropped else int(text_hashes([document.text])[0])
            is_held_out = decides is not None and decides < self.valid_share * 2**64
            if decides is None:
                task.drop(document, self.name, NEAR_EARLIER)
            elif is_held_out and is_dropped:
                task.drop(document, self.name, NEAR_HELD_OUT)
            else:
                document.split = "valid" if is_held_out else "train"
                yield document


class _TextHashes:
    """Hashes of documents by their numbers, read where they are asked for."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._shards: dict[int, np.ndarray | None] = {}

    def of(self, document: int) -> int | None:
        """The hash of the document's text; None for a document of the index of an earlier run."""
        shard, position = document >> POSITION_BITS, document & (2**POSITION_BITS - 1)
        if shard not in self._shards:
            path = text_hashes_path(self._folder, shard)
            self._shards[shard] = np.memmap(path, "<u8", "r") if path.is_file() else None
        hashes = self._shards[shard]
        if hashes is None:
            return None
        if position >= len(hashes):
            raise UserError(f"{text_hashes_path(self._folder, shard)} is damaged: delete it and run its task again")
        return int(hashes[position])
