"""What a run shows while it runs: a live line, TensorBoard and other trackers, the metrics file, the HTML report.

Callbacks read; none of them changes the training. They belong on one rank, the one that holds the losses.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from megatron_mimo.config import TrainingConfig
from megatron_mimo.config.trackers import TrackerConfig
from megatron_mimo.platform.formats import format_bytes, format_count, format_seconds
from megatron_mimo.platform.tracker_services import TrackedRun
from megatron_mimo.platform.trackers import Trackers
from megatron_mimo.training.eta import Eta
from megatron_mimo.training.metrics import AnyMetrics, EvaluationMetrics, MetricsLog, ScoreMetrics, StepMetrics
from megatron_mimo.training.run_plan import RunPlan
from megatron_mimo.training.scalars import evaluation_scalars, score_scalars, step_scalars


class Callback:
    """Every event does nothing here; a callback overrides the ones it shows."""

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        """The run begins, or resumes, after `step` steps (0 for a new run)."""

    def on_step(self, metrics: StepMetrics) -> None: ...

    def on_evaluation(self, metrics: EvaluationMetrics) -> None: ...

    def on_scores(self, metrics: ScoreMetrics) -> None: ...

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint is complete."""

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        """The guard went back to the checkpoint after `step` steps: what was shown beyond it no longer counts."""

    def on_end(self, reason: str) -> None:
        """The run ends in order: finished, pre-empted, or stopped by a guard."""


class Callbacks(Callback):
    """Passes every event on, in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        for callback in self.callbacks:
            callback.on_start(plan, step, consumed_tokens)

    def on_step(self, metrics: StepMetrics) -> None:
        for callback in self.callbacks:
            callback.on_step(metrics)

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        for callback in self.callbacks:
            callback.on_evaluation(metrics)

    def on_scores(self, metrics: ScoreMetrics) -> None:
        for callback in self.callbacks:
            callback.on_scores(metrics)

    def on_checkpoint(self, path: Path) -> None:
        for callback in self.callbacks:
            callback.on_checkpoint(path)

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        for callback in self.callbacks:
            callback.on_rollback(step, consumed_tokens)

    def on_end(self, reason: str) -> None:
        for callback in self.callbacks:
            callback.on_end(reason)


def default_callbacks(config: TrainingConfig, shows: bool) -> Callbacks:
    """The callbacks of a run on the rank that `shows` it, none on the others."""
    if not shows:
        return Callbacks([])
    output_dir = Path(config.output_dir)
    line = LiveLine(config.name, output_dir, config.logging.every_steps)
    # The report reads the metrics file, so it comes after it.
    files = [MetricsFile(output_dir), TensorBoardWriter(output_dir)]
    trackers = TrackerWriter(TrackedRun(config.name, output_dir, asdict(config)), config.logging.trackers)
    return Callbacks([line, *files, trackers, ReportWriter(output_dir)])


class LiveLine(Callback):
    """One readable line every `every_steps` steps; a terminal also sees the steps between, in place."""

    def __init__(self, name: str, output_dir: Path, every_steps: int, stream: TextIO | None = None) -> None:
        self.name, self.output_dir, self.every_steps = name, output_dir, every_steps
        self.stream = stream or sys.stdout

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        self.plan, self.eta = plan, Eta(plan)
        start = f"resumes after step {step}" if step else "starts"
        progress = f"{format_count(consumed_tokens)} of {format_count(plan.total_tokens)} tokens"
        self._print(f"{self.name} {start}: {progress} -> {self.output_dir}")

    def on_step(self, metrics: StepMetrics) -> None:
        self.eta.observe(metrics)
        last = self.plan.ends_after(metrics.step, metrics.consumed_tokens)
        if last or metrics.step == 1 or metrics.step % self.every_steps == 0:
            self._print(self.line(metrics))
        elif self.stream.isatty():
            columns = shutil.get_terminal_size().columns
            self.stream.write("\r\x1b[2K" + self.line(metrics)[: columns - 1])
            self.stream.flush()

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        losses = ", ".join(f"{source} {loss:.4f}" for source, loss in metrics.losses.items())
        self._print(f"evaluation after step {metrics.step}: held-out loss {losses}")

    def on_scores(self, metrics: ScoreMetrics) -> None:
        scores = ", ".join(f"{task} {score_text(found)}" for task, found in metrics.tasks.items())
        self._print(f"scores after step {metrics.step}: {scores}")

    def on_checkpoint(self, path: Path) -> None:
        self._print(f"checkpoint {path}")

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        self.eta.restart()
        self._print(f"back to step {step}, {format_count(consumed_tokens)} tokens")

    def on_end(self, reason: str) -> None:
        self._print(f"run ends: {reason}")

    def line(self, metrics: StepMetrics) -> str:
        """The line of a step; an unknown value is left out."""
        total, seconds_left = self.plan.total_tokens, self.eta.seconds(metrics)
        share = 100 * metrics.consumed_tokens / total
        parts = [
            f"step {metrics.step:>6}",
            metrics.stage,
            f"{format_count(metrics.consumed_tokens)}/{format_count(total)} tokens {share:.1f} %",
            f"loss {metrics.loss:.4f}" + (" SKIPPED" if metrics.skipped else ""),
            "mtp " + " ".join(f"{loss:.4f}" for loss in metrics.mtp_losses) if metrics.mtp_losses else "",
            f"lr {metrics.learning_rate:.3g}",
            f"grad {metrics.grad_norm:.3g}",
            f"{format_count(metrics.tokens_per_second)} tok/s",
            f"{metrics.tflops_per_gpu:.3g} TFLOP/s" if metrics.tflops_per_gpu else "",
            f"MFU {100 * metrics.mfu:.1f} %" if metrics.mfu is not None else "",
            format_bytes(metrics.memory_bytes),
            f"ETA {format_seconds(seconds_left)}" if seconds_left is not None else "",
        ]
        return " | ".join(part for part in parts if part)

    def _print(self, text: str) -> None:
        self.stream.write(("\r\x1b[2K" if self.stream.isatty() else "") + text + "\n")
        self.stream.flush()


def score_text(found: dict[str, float | None]) -> str:
    """`31.5 % (25.0 to 38.5)`."""
    score, low, high = found["score"], found["low"], found["high"]
    if score is None or low is None or high is None:
        return "no answers"
    return f"{100 * score:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


class MetricsFile(Callback):
    """`<output_dir>/metrics.jsonl`; lines beyond the step a run resumes or rolls back to are dropped."""

    def __init__(self, output_dir: Path) -> None:
        self.log = MetricsLog(output_dir / "metrics.jsonl")

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        self.log.truncate_after(step)

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        self.log.truncate_after(step)

    def on_step(self, metrics: StepMetrics) -> None:
        self.log.append(metrics)

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        self.log.append(metrics)

    def on_scores(self, metrics: ScoreMetrics) -> None:
        self.log.append(metrics)


class TensorBoardWriter(Callback):
    """Scalars twice, as two TensorBoard runs: `tensorboard/by_step` and `tensorboard/by_tokens`."""

    def __init__(self, output_dir: Path) -> None:
        self.folder = output_dir / "tensorboard"

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        self._open(step, consumed_tokens)

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        self.on_end("rollback")
        self._open(step, consumed_tokens)

    def _open(self, step: int, consumed_tokens: int) -> None:
        # Imported late: only this rank needs tensorboard.
        from torch.utils.tensorboard.writer import SummaryWriter

        # TensorBoard hides points from `purge_step` on: a resumed run draws over what it repeats. A folder for each
        # horizontal axis, because one purge value cannot be right for both.
        self.by_step = SummaryWriter(str(self.folder / "by_step"), purge_step=step + 1)
        self.by_tokens = SummaryWriter(str(self.folder / "by_tokens"), purge_step=consumed_tokens + 1)

    def on_step(self, metrics: StepMetrics) -> None:
        self._write(step_scalars(metrics), metrics.step, metrics.consumed_tokens)

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        self._write(evaluation_scalars(metrics), metrics.step, metrics.consumed_tokens)

    def on_scores(self, metrics: ScoreMetrics) -> None:
        self._write(score_scalars(metrics), metrics.step, metrics.consumed_tokens)

    def on_end(self, reason: str) -> None:
        self.by_step.close()
        self.by_tokens.close()

    def _write(self, scalars: dict[str, float], step: int, consumed_tokens: int) -> None:
        for tag, value in scalars.items():
            self.by_step.add_scalar(tag, value, step)
            self.by_tokens.add_scalar(f"by_tokens/{tag}", value, consumed_tokens)


class TrackerWriter(Callback):
    """The same scalars to tracking services, with the consumed tokens as one of them."""

    def __init__(self, run: TrackedRun, services: list[TrackerConfig]) -> None:
        self.run, self.services = run, services

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        self.trackers = Trackers(self.services, self.run)

    def on_step(self, metrics: StepMetrics) -> None:
        self._log(step_scalars(metrics), metrics)

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        self._log(evaluation_scalars(metrics), metrics)

    def on_scores(self, metrics: ScoreMetrics) -> None:
        self._log(score_scalars(metrics), metrics)

    def on_end(self, reason: str) -> None:
        self.trackers.close()

    def _log(self, scalars: dict[str, float], metrics: AnyMetrics) -> None:
        self.trackers.log({**scalars, "consumed_tokens": float(metrics.consumed_tokens)}, metrics.step)


class ReportWriter(Callback):
    """`<output_dir>/report.html` anew at each evaluation, stage end and run end, but not every few seconds."""

    MIN_SECONDS = 60.0
    """From the start, and between two reports, the last excepted: drawing takes seconds in which the ranks wait."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.stage: str | None = None
        self.written_at = time.monotonic()

    def on_step(self, metrics: StepMetrics) -> None:
        if self.stage is not None and metrics.stage != self.stage:
            self._write_now_and_then()
        self.stage = metrics.stage

    def on_evaluation(self, metrics: EvaluationMetrics) -> None:
        self._write_now_and_then()

    def on_end(self, reason: str) -> None:
        self._write()

    def _write_now_and_then(self) -> None:
        if time.monotonic() - self.written_at >= self.MIN_SECONDS:
            self._write()

    def _write(self) -> None:
        # Imported late: only this rank needs matplotlib.
        try:
            from megatron_mimo.training.report import write_report

            write_report(self.output_dir)
        except Exception as error:
            # A picture that cannot be drawn must not end a run of weeks; `megatron-mimo report` draws it later.
            print(f"no report written: {type(error).__name__}: {error}", file=sys.stderr)
        self.written_at = time.monotonic()
