"""What training consumed, beside what the mixture files asked for.

A stage's samples follow its mixture to within one sample per source at any time, so anything beyond shows a run that
read other files, or lost steps.
"""

from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import PretrainConfig, UserError, load
from megatron_mimo.data.loading.mixture import read_mixture
from megatron_mimo.training.history import read_history


@dataclass(frozen=True)
class Consumed:
    """One source in one stage."""

    stage: str
    source: str
    asked: float
    """Share of the mixture file."""
    tokens: int
    stage_tokens: int
    seq_length: int

    @property
    def share(self) -> float:
        """Share of the stage's tokens."""
        return self.tokens / self.stage_tokens

    def is_off(self, tolerance: float) -> bool:
        """Whether the share is off by more than `tolerance` and the tokens by more than two samples."""
        off = abs(self.share - self.asked)
        return off > tolerance and off * self.stage_tokens > 2 * self.seq_length


def compare(run_dir: Path) -> list[Consumed]:
    """Every source of every stage that the run has begun; raises UserError where the run folder is incomplete."""
    config = load(PretrainConfig, [str(run_dir / "config.yaml")])
    history = read_history(run_dir / "metrics.jsonl")
    rows = []
    for stage in config.stages:
        consumed = history.source_tokens.get(stage.name)
        if not consumed:
            continue
        weights = read_mixture(run_dir / stage.mixture).weights
        total = sum(consumed.values())
        for source in dict.fromkeys([*weights, *consumed]):
            asked, tokens = float(weights.get(source, 0)), consumed.get(source, 0)
            rows.append(Consumed(stage.name, source, asked, tokens, total, stage.seq_length))
    if not rows:
        raise UserError(f"{run_dir}: no step of the stages in its config.yaml was made yet: nothing to compare")
    return rows


def render(rows: list[Consumed], tolerance: float) -> str:
    """A table; `!` marks what is off."""
    lines = [f"{'stage':<12} {'source':<24} {'tokens':>18} {'asked %':>9} {'read %':>9} {'off %':>8}"]
    lines += [
        f"{row.stage:<12} {row.source:<24} {row.tokens:>18,} {100 * row.asked:>9.3f} {100 * row.share:>9.3f}"
        f" {100 * (row.share - row.asked):>+8.3f}{' !' if row.is_off(tolerance) else ''}"
        for row in rows
    ]
    return "\n".join(lines)
