"""What the solver is asked: sources with their labels and sizes, and for each stage its tokens, targets and limits."""

from dataclasses import dataclass, field
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.tokens.manifest import read_manifest


@dataclass(kw_only=True)
class SourceTotals:
    """One source of the mixture: a bucket of documents, such as a domain at one quality."""

    name: str
    tokens: float | None = None
    """Tokens it holds, each once; null takes them from the manifest of `data`."""
    labels: dict = field(default_factory=dict)
    """What selectors compare, for example `{domain: mathematics, quality: high}`."""
    max_epochs: float | None = None
    """Most passes over it in all stages together; null takes the spec's."""

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens <= 0:
            raise ConfigError(f"sources: {self.name}: tokens", self.tokens, "must be above 0")
        if self.max_epochs is not None and self.max_epochs <= 0:
            raise ConfigError(f"sources: {self.name}: max_epochs", self.max_epochs, "must be above 0")


@dataclass(kw_only=True)
class SamplingConfig:
    """Down-samples (below 1) or up-samples (above 1) some sources beside the others."""

    where: dict
    factor: float

    def __post_init__(self) -> None:
        if self.factor < 0:
            raise ConfigError("factor", self.factor, "must be 0 or more; 0 leaves the sources out")


@dataclass(kw_only=True)
class TargetConfig:
    """What share of a stage some sources have together: `share` give or take `tolerance`, or within bounds."""

    where: dict
    share: float | None = None
    tolerance: float = 0.0
    min_share: float | None = None
    max_share: float | None = None

    def __post_init__(self) -> None:
        if self.share is None and self.min_share is None and self.max_share is None:
            raise ConfigError("targets", describe(self.where), "give share, or min_share and max_share")
        shares = {"share": self.share, "min_share": self.min_share, "max_share": self.max_share}
        for name, value in (shares | {"tolerance": self.tolerance}).items():
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(name, value, "must be in [0, 1]")

    @property
    def lowest(self) -> float:
        """Smallest share that will do."""
        return max(self.min_share or 0.0, 0.0 if self.share is None else self.share - self.tolerance)

    @property
    def highest(self) -> float:
        """Largest share that will do."""
        above = 1.0 if self.max_share is None else self.max_share
        return min(above, 1.0 if self.share is None else self.share + self.tolerance)


@dataclass(kw_only=True)
class StageSpec:
    """One training stage. Without targets, sources have the shares of their sampled sizes."""

    name: str
    tokens: float
    exclude: list[dict] = field(default_factory=list)
    """Selectors of sources that the stage must not hold."""
    sampling: list[SamplingConfig] = field(default_factory=list)
    targets: list[TargetConfig] = field(default_factory=list)


@dataclass(kw_only=True)
class BalanceSpec:
    """What `megatron-mimo mixture solve SPEC.yaml` reads.

    A selector (`where`, `exclude`) maps labels, or `name`, to a value or a list of values; all of them must hold.
    """

    output_dir: str
    """Folder that gets `STAGE.yaml` for each stage, and `mixture.json`."""
    stages: list[StageSpec]
    sources: list[SourceTotals] = field(default_factory=list)
    """Empty takes every source of `data`."""
    data: str | None = None
    """Data folder whose manifest gives tokens and the label `domain`."""
    max_epochs: float = 4.0
    """Passes over a source in all stages together, up to which repetition does little harm."""

    def __post_init__(self) -> None:
        for key, names in (("sources", [s.name for s in self.sources]), ("stages", [s.name for s in self.stages])):
            if len(set(names)) != len(names):
                raise ConfigError(key, names, "every name must be different")
        if not self.stages or (not self.sources and self.data is None):
            raise ConfigError("sources", None, "give stages, and sources or data")


@dataclass(frozen=True)
class Source:
    """A source with everything known."""

    name: str
    tokens: float
    labels: dict[str, Any]
    max_epochs: float


def resolve_sources(spec: BalanceSpec) -> list[Source]:
    """Fill in what the manifest knows; raises UserError when a source's tokens are unknown."""
    known = read_manifest(spec.data).sources if spec.data is not None else {}
    asked = spec.sources or [SourceTotals(name=name) for name in known]
    sources = []
    for source in asked:
        entry = known.get(source.name)
        tokens = source.tokens if source.tokens is not None else entry.train.tokens if entry is not None else None
        if not tokens:
            raise UserError(
                f"sources: {source.name}: its number of tokens is unknown: give tokens, or data with a manifest that"
                f" holds it (known there: {', '.join(known) or 'nothing'})"
            )
        labels = ({"domain": entry.domain} if entry is not None else {}) | source.labels
        sources.append(Source(source.name, tokens, labels, source.max_epochs or spec.max_epochs))
    return sources


def select(sources: list[Source], where: dict[str, Any]) -> list[int]:
    """Numbers of the sources that a selector picks; raises UserError when it picks none."""
    chosen = [number for number, source in enumerate(sources) if _picks(where, source)]
    if not chosen:
        labels = sorted({f"{key}: {value}" for source in sources for key, value in source.labels.items()})
        raise UserError(f"no source is {describe(where)}: correct the selector; labels are {', '.join(labels)}")
    return chosen


def _picks(where: dict[str, Any], source: Source) -> bool:
    values = source.labels | {"name": source.name}
    return all(values.get(key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in where.items())


def describe(where: dict[str, Any]) -> str:
    """A selector in words."""
    parts = (f"{key} {'/'.join(map(str, v)) if isinstance(v, list) else v}" for key, v in where.items())
    return ", ".join(parts) or "anything"
