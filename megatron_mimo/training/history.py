"""What a run's `metrics.jsonl` tells, thinned to what a chart can show, in one pass and bounded memory."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.record.rows import Row, read_rows

MEASURED = ("loss", "grad_norm", "step_seconds", "tokens_per_second", "tflops_per_gpu", "mfu", "memory_bytes")
"""Averaged over the steps that share a point; everything else is taken from the last of them."""


@dataclass
class History:
    """A run so far: `steps` holds at most about `max_points` rows, the totals count every step."""

    steps: list[Row] = field(default_factory=list)
    """Rows of StepMetrics' fields, and the smallest and largest loss of each point as `loss_low`, `loss_high`."""
    evaluations: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    """Of benchmarks, fields of ScoreMetrics."""
    stage_starts: dict[str, int] = field(default_factory=dict)
    """Consumed tokens before the first step of each stage."""
    source_tokens: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    """Tokens actually consumed, by stage and source."""
    last: Row | None = None
    skipped_steps: int = 0
    step_seconds: float = 0.0
    peak_memory_bytes: int = 0


def read_history(metrics: Path, max_points: int = 400) -> History:
    """Fold `metrics.jsonl` into a History; a half-written last line is left out. Raises UserError without the file."""
    if not metrics.is_file():
        raise UserError(f"no {metrics.name} in {metrics.parent}: give the output_dir of a run that made a step")
    with metrics.open(encoding="utf-8") as lines:
        count = sum('"source_tokens"' in line for line in lines)
    group_steps = max(1, math.ceil(count / max_points))
    try:
        return _fold(read_rows(metrics), group_steps)
    except KeyError as error:
        raise UserError(f"{metrics} is not a file of this program's metrics: a line lacks {error}") from error


def _fold(rows: Iterable[Row], group_steps: int) -> History:
    history = History()
    group: list[Row] = []
    for row in rows:
        if row["kind"] == "evaluation":
            history.evaluations.append(row)
            continue
        if row["kind"] == "scores":
            history.scores.append(row)
            continue
        _count(history, row)
        # A point never spans two stages: a step in a schedule must stay a step.
        if group and (len(group) == group_steps or group[0]["stage"] != row["stage"]):
            history.steps.append(_merge(group))
            group = []
        group.append(row)
    if group:
        history.steps.append(_merge(group))
    return history


def _count(history: History, row: Row) -> None:
    history.stage_starts.setdefault(row["stage"], history.last["consumed_tokens"] if history.last else 0)
    history.last = row
    history.skipped_steps += row["skipped"]
    history.step_seconds += row["step_seconds"]
    history.peak_memory_bytes = max(history.peak_memory_bytes, row["memory_bytes"])
    for source, tokens in row["source_tokens"].items():
        history.source_tokens[row["stage"]][source] += tokens


def _merge(group: list[Row]) -> Row:
    merged = dict(group[-1])
    for key in MEASURED:
        merged[key] = mean(row[key] for row in group)
    losses = [row["loss"] for row in group if math.isfinite(row["loss"])] or [math.nan]
    merged["loss_low"], merged["loss_high"] = min(losses), max(losses)
    merged["mtp_losses"] = [
        mean(row["mtp_losses"][depth] for row in group) for depth in range(len(merged["mtp_losses"]))
    ]
    sources = sorted({source for row in group for source in row["source_losses"]})
    merged["source_losses"] = {source: mean(row["source_losses"].get(source) for row in group) for source in sources}
    return merged


def mean(values: Iterable[float | None]) -> float:
    """Mean of the finite values; NaN where there is none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
