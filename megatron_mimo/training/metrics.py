"""The numbers of a step and of an evaluation, and the file they are kept in: one JSON object per line.

A number that is not finite is written as Python's json module writes and reads it: NaN, Infinity.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError


@dataclass
class StepMetrics:
    """One training step. Losses are nats per token, means over the global batch."""

    step: int
    """Counts from 1."""
    consumed_tokens: int
    """Tokens of the run after this step; its schedules were evaluated at the tokens before it."""
    stage: str
    loss: float
    mtp_losses: list[float]
    """By MTP depth, not multiplied by the MTP weight."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    global_batch_size: int
    seq_length: int
    rotary_base: int
    mtp_loss_scaling_factor: float
    step_seconds: float
    tokens_per_second: float
    tflops_per_gpu: float
    mfu: float | None
    """Share of the device's peak; None where no peak is configured."""
    memory_bytes: int
    skipped: bool
    """The guard left this step's update out."""
    source_losses: dict[str, float]
    source_tokens: dict[str, int]
    """Tokens of this step by source."""


@dataclass
class EvaluationMetrics:
    """Losses on held-out sequences after `step` steps, by source, in nats per token."""

    step: int
    consumed_tokens: int
    losses: dict[str, float]
    mtp_losses: dict[str, list[float]]
    """By source, then by MTP depth."""


@dataclass
class ScoreMetrics:
    """Scores of benchmarks after `step` steps: task -> its figures (eval/session.py, `score_now`)."""

    step: int
    consumed_tokens: int
    tasks: dict[str, dict[str, float | None]]


AnyMetrics = StepMetrics | EvaluationMetrics | ScoreMetrics
KINDS: dict[str, type[AnyMetrics]] = {"step": StepMetrics, "evaluation": EvaluationMetrics, "scores": ScoreMetrics}


@dataclass
class Metrics:
    """Everything in a metrics file, in order. `torn_lines` counts the lines a crash cut off, which were left out."""

    steps: list[StepMetrics] = field(default_factory=list)
    evaluations: list[EvaluationMetrics] = field(default_factory=list)
    scores: list[ScoreMetrics] = field(default_factory=list)
    torn_lines: int = 0


class MetricsLog:
    """Appends to `<output_dir>/metrics.jsonl`; a line has reached the operating system when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Create the file or continue with it; raises UserError where it cannot be written."""
        self.path = path
        with _file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A line that a crash cut off must not swallow the first new one.
            self._write("\n" if _ends_torn(path) else "")

    def append(self, metrics: AnyMetrics) -> None:
        """Write one line; raises UserError on a full disk."""
        kind = next(kind for kind, form in KINDS.items() if isinstance(metrics, form))
        self._write(json.dumps({"kind": kind} | dataclasses.asdict(metrics)) + "\n")

    def truncate_after(self, step: int) -> None:
        """Drop the lines of steps beyond `step`, torn ones and such as name no step; the old file stands until the new
        one is complete."""
        temporary, damaged = self.path.with_name(self.path.name + ".tmp"), 0
        with _file_errors(self.path), temporary.open("w", encoding="utf-8") as file:
            for line, row in _rows(self.path):
                number = None if row is None else row.get("step")
                damaged += not isinstance(number, int)
                if isinstance(number, int) and number <= step:
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, self.path)
        if damaged > 1:  # one is what a kill leaves
            print(f"{self.path}: {damaged} lines were damaged and are left out", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        with _file_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(text)


def read_metrics(path: Path) -> Metrics:
    """Read a whole metrics file; raises UserError where it is missing or holds something else."""
    metrics = Metrics()
    with _file_errors(path):
        for number, (_, row) in enumerate(_rows(path), start=1):
            if row is None:
                metrics.torn_lines += 1
                continue
            try:
                parsed = KINDS[row.pop("kind")](**row)
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: not a line of metrics ({error}); is it the right file?"
                ) from error
            if isinstance(parsed, StepMetrics):
                metrics.steps.append(parsed)
            elif isinstance(parsed, EvaluationMetrics):
                metrics.evaluations.append(parsed)
            else:
                metrics.scores.append(parsed)
    return metrics


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each line that is not blank, with its content, or None where it was cut off."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            whole = line.endswith("\n") and isinstance(row, dict)
            yield line, row if whole else None


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read or write the metrics {path}: {error.strerror}") from error
