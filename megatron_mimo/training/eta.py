"""How long a run still takes, from measured steps alone.

The first step after a start, a rollback or a change of stage builds kernels and buffers and is no measure. Sequence
lengths differ between stages: the pace of a stage that has not come yet is this one's, by FLOPs per token. Evaluations,
checkpoints and reports between the steps count by the share of the time that they have taken so far.
"""

import time
from collections.abc import Callable

from megatron_mimo.training.metrics import StepMetrics
from megatron_mimo.training.run_plan import RunPlan


class Eta:
    """`observe` every step, `restart` where the next one is a first one."""

    MIN_STEPS = 3
    """Measured before anything is said."""
    AVERAGED_STEPS = 50
    """Weight of the past in the running average of seconds per token."""

    def __init__(self, plan: RunPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._clock = plan, clock
        self._flops = {stage.name: stage.flops_per_token for stage in plan.stages}
        self._seconds_per_flop = 0.0
        self._measured_steps = 0
        self._step_seconds = self._between_seconds = 0.0
        self.restart()

    def restart(self) -> None:
        """The next step is a first one."""
        self._stage: str | None = None
        self._ended_at = 0.0

    def observe(self, metrics: StepMetrics) -> None:
        """A step has just ended."""
        now, is_first = self._clock(), metrics.stage != self._stage
        if not is_first and metrics.tokens_per_second > 0:
            self._measured_steps += 1
            pace = 1 / metrics.tokens_per_second / self._flops[metrics.stage]
            self._seconds_per_flop += (pace - self._seconds_per_flop) / min(self._measured_steps, self.AVERAGED_STEPS)
            self._step_seconds += metrics.step_seconds
            self._between_seconds += max(now - self._ended_at - metrics.step_seconds, 0.0)
        self._stage, self._ended_at = metrics.stage, now

    def seconds(self, metrics: StepMetrics) -> float | None:
        """From the end of this step to the end of the run; None before enough steps were measured."""
        if self._measured_steps < self.MIN_STEPS:
            return None
        left = self._flops_left(metrics) * self._seconds_per_flop
        return left * (1 + self._between_seconds / self._step_seconds)

    def _flops_left(self, metrics: StepMetrics) -> float:
        """Over the tokens of this stage and those after it, or of the steps to `max_steps`."""
        allowed, limit = float("inf"), self._plan.max_steps
        if limit is not None:
            allowed = max(limit - metrics.step, 0) * metrics.global_batch_size * metrics.seq_length
        end, total = 0, 0.0
        for stage in self._plan.stages:
            start, end = end, end + stage.tokens
            tokens = min(max(end - max(start, metrics.consumed_tokens), 0), allowed)
            allowed -= tokens
            total += tokens * self._flops[stage.name]
        return total
