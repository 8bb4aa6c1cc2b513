"""The files of one deduplication: which folder holds what, and which part of it a task reads.

A document's number is its shard << 40 | its place in the shard. Shards of a run count on from those of the index it
was given, so numbers of indexed documents are smaller than all numbers of the run.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from megatron_mimo.config.errors import ConfigError
from megatron_mimo.data.dedup.config import DedupConfig

POSITION_BITS = 40
URL, EXACT, NEAR = 1, 2, 3
"""Kinds of duplicates: a document found by several ways has the first of them."""

# Folders of runs and their columns.
URLS = "urls"  # hash of the URL, badness, document
TEXTS = "texts"  # hash of the text, badness, document
BANDS = "bands"  # band key, document
WINNERS = {URL: "url_winners", EXACT: "text_winners", NEAR: "near_winners"}
"""Folder of every kind of duplicate: document, kind, kept document, documents in its group (0 where it is dropped)."""
BADNESS = "badness"  # no runs: the badness of a shard's documents one after another
TEXT_HASHES = "text_hashes"  # no runs: the hash of the text of a shard's documents one after another
MEMBERS = "members"  # root of the cluster, badness, document
INDEX_COLUMNS = {URLS: 3, TEXTS: 3, BANDS: 2}
OLD_BADNESS = 0
"""Better than every document of the run."""


@dataclass(frozen=True)
class Work:
    """Places of one deduplication."""

    config: DedupConfig
    input_folder: Path
    folder: Path
    num_shards: int

    def check_index(self) -> None:
        """Raise ConfigError when the index is missing or was made with other settings."""
        _ = self.first_shard

    @cached_property
    def first_shard(self) -> int:
        """Number of this run's shard 0."""
        if not self.config.index:
            return 0
        path = Path(self.config.index) / "index.json"
        if not path.is_file():
            raise ConfigError("dedup.index", self.config.index, "has no index.json: give a finished run's index folder")
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["scheme"] != self.config.index_scheme():
            raise ConfigError("dedup.index", self.config.index, f"was made with other settings: {saved['scheme']}")
        return saved["next_shard"]

    def file(self, kind: str, index: int, suffix: str = "bin") -> Path:
        """The file of task `index` in the folder `kind`."""
        return self.folder / kind / f"{index:05d}.{suffix}"

    def files(self, kind: str) -> list[Path]:
        """The files of all tasks of a folder; a missing one is found when it is opened."""
        if not self.config.urls and kind in (URLS, WINNERS[URL]):
            return []
        num_tasks = self.num_shards if kind in INDEX_COLUMNS else self.config.partitions
        return [self.file(kind, i) for i in range(num_tasks)]

    def with_index(self, kind: str) -> list[Path]:
        """The same, and the files of the index before them."""
        old = sorted((Path(self.config.index) / kind).glob("[0-9]*.bin")) if self.config.index else []
        return old + self.files(kind)

    def first_number(self, shard: int) -> int:
        """Number of the first document of this run's shard."""
        return (self.first_shard + shard) << POSITION_BITS

    def number_range(self, index: int) -> tuple[int, int]:
        """Documents of task `index` where the first column is a document: whole shards, the index's among them."""
        total, tasks = self.first_shard + self.num_shards, self.config.partitions
        return (total * index // tasks) << POSITION_BITS, (total * (index + 1) // tasks) << POSITION_BITS


def text_hashes_path(folder: str | Path, shard: int) -> Path:
    """Hashes of the texts of a shard, counted on from the index's, in the folder of a deduplication."""
    return Path(folder) / TEXT_HASHES / f"{shard:05d}.bin"


def badness(qualities: list[float]) -> np.ndarray:
    """uint64 in the opposite order of the numbers: sorting puts the best first; NaN is worst, and 0 is never used."""
    values = np.nan_to_num(np.array(qualities, np.float64), nan=-np.inf, posinf=float(np.finfo(np.float64).max))
    bits = (values + 0.0).view(np.uint64)
    top = np.uint64(1 << 63)
    return ~np.where(bits & top, ~bits, bits | top)
