"""The trace of an RL run: one line per step, `metrics.jsonl`, TensorBoard, the last step's timeline, HTML
report; and of each validation, which problems were solved."""

import sys
from pathlib import Path
from typing import Any, TextIO

from torch.utils.tensorboard.writer import SummaryWriter

from megatron_mimo.platform.files import write_json
from megatron_mimo.platform.formats import format_seconds
from megatron_mimo.platform.trackers import Trackers
from megatron_mimo.record.rows import METRICS, TIMELINE, VALIDATION_PROBLEMS, RowLog
from megatron_mimo.rl.report import write_report
from megatron_mimo.rl.rollout_page import write_rollout_page
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch
from megatron_mimo.rl.step_record import StepRecord, ValidationRecord, row, scalars


class Trace:
    """Written only by the driver. A row is in the file before the next step begins."""

    def __init__(
        self,
        output_dir: Path,
        num_steps: int,
        after_step: int,
        stream: TextIO | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        """`after_step`: the step that the run resumes from (0: it begins); what was written after it is dropped.

        `trackers` get the scalars that TensorBoard gets.
        """
        self._output_dir, self._num_steps = output_dir, num_steps
        self._stream = stream or sys.stdout
        self._rows = row_log(output_dir / METRICS, after_step)
        self._problems = row_log(output_dir / VALIDATION_PROBLEMS, after_step)
        self._board = SummaryWriter(str(output_dir / "tensorboard"), purge_step=after_step + 1 if after_step else None)
        self._trackers = trackers
        self._seconds_per_step: float | None = None
        self._is_first = True
        self._troubles: dict[str, dict[str, int]] = {}

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def on_step(self, record: StepRecord, batch: RolloutBatch) -> None:
        """After a step's weights have reached the engines."""
        self._append("step", record)
        write_json(self._output_dir / TIMELINE, timeline(record.step, batch))
        self.say(self.line(record))
        self._say_engines(record)

    def _say_engines(self, record: StepRecord) -> None:
        """One line for every engine that had trouble since the last step, or is set aside."""
        for name, engine in record.engines.items():
            troubles = {key: engine[key] for key in ("timeouts", "silences", "deaths") if engine[key]}
            if troubles != self._troubles.get(name, {}) or engine["state"] == "given up":
                counts = ", ".join(f"{count} {key}" for key, count in troubles.items())
                self.say(f"{name}: {engine['state']}; {counts} since the start, {engine['restarts']} restarts")
            self._troubles[name] = troubles

    def on_validation(self, record: ValidationRecord) -> None:
        self._append("validation", record)
        self._problems.append_row("validation", {"step": record.step, "problems": record.problems})
        self.say(
            f"validation after step {record.step}: pass@1 {record.solved:.1%} ({record.low:.1%} to {record.high:.1%}), "
            + ", ".join(f"{name} {result.solved:.1%}" for name, result in record.domains.items())
            + (f"; {record.faulted_groups} problems left out after faults" if record.faulted_groups else "")
        )

    def line(self, record: StepRecord) -> str:
        """Step, what the policy reaches, what the rollout cost, time left."""
        left = self._eta(record)
        return (
            f"step {record.step}/{self._num_steps}  reward {record.reward:.3f}  solved {record.solved:.1%}  "
            f"length {record.response_tokens:.0f}  loss {record.trainer.get('loss', 0.0):+.4f}  "
            f"grad {record.trainer.get('grad_norm', 0.0):.3f}  rollout {record.rollout_seconds:.1f} s  "
            f"train {record.train_seconds:.1f} s  idle {record.idle_ratio:.0%}  waste {record.waste_ratio:.0%}  "
            f"pool {record.pool_size}"
            + (f"  drafts {record.draft_acceptance:.0%}" if record.drafted_tokens else "")
            + (f"  ETA {left}" if left else "")
        )

    def _eta(self, record: StepRecord) -> str:
        """Time left at the average pace; nothing after the first step, in which engines warm up."""
        if self._is_first:
            self._is_first = False
            return ""
        seconds = record.rollout_seconds + record.train_seconds + record.weights_seconds
        past = self._seconds_per_step
        self._seconds_per_step = seconds if past is None else 0.9 * past + 0.1 * seconds
        return format_seconds(self._seconds_per_step * (self._num_steps - record.step))

    def close(self) -> None:
        """Write the report; a picture that cannot be drawn must not end a run."""
        self._board.close()
        if self._trackers:
            self._trackers.close()
        try:
            self.say(f"report: {write_report(self._output_dir)}")
            if rollouts := write_rollout_page(self._output_dir):
                self.say(f"rollouts to read: {rollouts}")
        except Exception as error:
            print(f"no report written: {type(error).__name__}: {error}", file=sys.stderr)

    def _append(self, kind: str, record: StepRecord | ValidationRecord) -> None:
        self._rows.append_row(kind, row(record))
        values = scalars(record)
        for tag, value in values.items():
            self._board.add_scalar(tag, value, record.step)
        self._board.flush()
        if self._trackers:
            self._trackers.log(values, record.step)


def row_log(path: Path, after_step: int) -> RowLog:
    """The file without what was written after the step that the run resumes from."""
    if not after_step:
        path.unlink(missing_ok=True)
    rows = RowLog(path)
    rows.truncate_after(after_step)
    return rows


def timeline(step: int, batch: RolloutBatch) -> dict[str, Any]:
    """Spans of a step in seconds from its start, each with its group's outcome."""
    outcomes = {group.launch_index: str(group.outcome) for group in batch.groups}
    return {
        "step": step,
        "seconds": batch.seconds,
        "spans": [
            {
                "kind": span.kind,
                "where": span.where,
                "start": round(span.start_seconds - batch.start_seconds, 4),
                "end": round(span.end_seconds - batch.start_seconds, 4),
                "outcome": outcomes.get(span.launch_index, "") if span.finished else "aborted",
            }
            for span in batch.spans
        ],
    }
