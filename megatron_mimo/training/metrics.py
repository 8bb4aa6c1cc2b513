"""The numbers of a training step and of an evaluation: the rows of a run's metrics file (record/rows.py)."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.record.rows import RowLog, file_errors, read_lines


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


class MetricsLog(RowLog):
    """Appends to `<output_dir>/metrics.jsonl`."""

    def append(self, metrics: AnyMetrics) -> None:
        """Write one line; raises UserError on a full disk."""
        kind = next(kind for kind, form in KINDS.items() if isinstance(metrics, form))
        self.append_row(kind, dataclasses.asdict(metrics))


def read_metrics(path: Path) -> Metrics:
    """Read a whole metrics file; raises UserError where it is missing or holds something else."""
    metrics = Metrics()
    with file_errors(path):
        for number, (_, row) in enumerate(read_lines(path), start=1):
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
