"""Options of deduplication."""

from dataclasses import dataclass, field

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.data.dedup.characters import fingerprint
from megatron_mimo.data.dedup.minhash import MinHash


@dataclass(kw_only=True)
class DedupConfig:
    """What counts as a duplicate, which copy stays, and how much memory a task takes."""

    urls: bool = True
    """Keep one document for each canonical URL, before texts are compared."""
    num_bands: int = 14
    rows: int = 8
    """Minima a band: texts of Jaccard J share one of the bands with 1 - (1 - J**rows)**num_bands, half at 0.69."""
    overlapping_bands: bool = True
    """Twice the keys from the same minima: fewer near-duplicates are missed (of Jaccard 0.775 95 % are found, not
    86 %), more of those less alike are found too (half at 0.64), sorting costs twice as much."""
    ngram: int = 5
    """Tokens a shingle: words, or characters of scripts without spaces."""
    seed: int = 1
    quality: str = ""
    """Metadata key of the number by which the best copy is kept (no number is worst); empty: the longest text."""
    partitions: int = 16
    """Tasks of the stages that group keys."""
    cluster_rounds: int = 12
    """At most this many rounds of contraction; those that find nothing to do end at once."""
    index: str = ""
    """`index` folder of an earlier run: documents like those are dropped."""
    save_index: bool = False
    """Write `work_folder/index`: the keys of `index` and of the documents kept here."""
    memory_bytes: int = 256 * 2**20
    """Buffers of a task, whatever the number of documents."""

    scheme: MinHash = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = dict(num_bands=self.num_bands, rows=self.rows, partitions=self.partitions)
        require_at_least(1, "dedup", **sizes, cluster_rounds=self.cluster_rounds, seed=self.seed)
        require_at_least(2**20, "dedup", memory_bytes=self.memory_bytes)
        if not 1 <= self.ngram <= 64:
            raise ConfigError("dedup.ngram", self.ngram, "must be from 1 to 64")
        if self.num_bands * self.rows > 4096:
            raise ConfigError("dedup.num_bands", self.num_bands, "num_bands x rows must be at most 4096")
        if self.overlapping_bands and self.rows % 2:
            raise ConfigError("dedup.rows", self.rows, "must be even, or overlapping_bands: false")
        self.scheme = MinHash(self.num_bands, self.rows, self.ngram, self.seed, self.overlapping_bands)

    def index_scheme(self) -> dict[str, int | str]:
        """What two runs must have in common to compare their keys."""
        numbers = {"num_bands": self.num_bands, "rows": self.rows, "ngram": self.ngram, "seed": self.seed}
        return {"format": 1, **numbers, "overlapping": self.overlapping_bands, "characters": fingerprint()}
