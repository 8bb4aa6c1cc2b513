"""The training recipe as functions of consumed tokens (report section 3.3).

Every value belongs to the step that starts at `consumed_tokens`: the tokens consumed BEFORE it. Stage bounds are
absolute token counts of the configuration. A stage ends with the first step that reaches its bound; what that step
consumes beyond it counts towards the next stage, so the run never drifts by more than one step from the plan, and every
value is a pure function of `consumed_tokens` that a resumed run computes anew.
"""

import bisect
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from megatron_mimo.config import LearningRateSegment, MTPLossWeight, StageConfig


class PlannedStep(NamedTuple):
    """One step of a simulated run; `step` counts from 1, `consumed_tokens` is what was consumed before it."""

    step: int
    consumed_tokens: int
    stage: int
    global_batch_size: int


class StepRun(NamedTuple):
    """`steps` steps in a row of one stage with one batch size; the first is step `first_step`."""

    first_step: int
    consumed_tokens: int
    stage: int
    global_batch_size: int
    steps: int


class Schedule:
    """Learning rate, batch size, MTP weight and stage by consumed tokens; raises ValueError for negative counts."""

    def __init__(self, stages: list[StageConfig], mtp_loss: list[MTPLossWeight]) -> None:
        self.stages = stages
        self.mtp_loss = mtp_loss
        self._bounds = list(itertools.accumulate((stage.length for stage in stages), initial=0))

    @property
    def total_tokens(self) -> int:
        """Tokens of all stages; the run ends with the first step that reaches them."""
        return self._bounds[-1]

    @property
    def total_steps(self) -> int:
        """Steps of an uninterrupted run through all stages."""
        return sum(run.steps for run in self.step_runs())

    def stage_start(self, stage: int) -> int:
        """Consumed tokens at which stage number `stage` begins by plan."""
        return self._bounds[stage]

    def stage_end(self, stage: int) -> int:
        """Consumed tokens at which stage number `stage` ends by plan."""
        return self._bounds[stage + 1]

    def stage_index(self, consumed_tokens: int) -> int:
        """Number of the stage of the next step; the last one once all tokens are consumed."""
        if consumed_tokens < 0:
            raise ValueError(f"consumed_tokens must not be negative, got {consumed_tokens}")
        return min(bisect.bisect_right(self._bounds, consumed_tokens), len(self.stages)) - 1

    def learning_rate(self, consumed_tokens: int) -> float:
        """Learning rate of the next step; past the end of the run it stays at its last value."""
        stage = self.stage_index(consumed_tokens)
        offset = consumed_tokens - self._bounds[stage]
        for segment in self.stages[stage].learning_rate:
            if offset < segment.tokens:
                return _interpolate(segment, offset / segment.tokens)
            offset -= segment.tokens
        return self.stages[stage].learning_rate[-1].end

    def global_batch_size(self, consumed_tokens: int) -> int:
        """Sequences of the next step: the stage's batch, or inside its ramp a multiple of the ramp's increment."""
        stage = self.stage_index(consumed_tokens)
        config, offset = self.stages[stage], consumed_tokens - self._bounds[stage]
        ramp = config.batch_ramp
        if ramp is None or offset >= ramp.tokens:
            return config.global_batch_size
        # Whole numbers only: a rounded quotient could move a ramp step by one training step.
        increments = (config.global_batch_size - ramp.start) * offset // (ramp.tokens * ramp.increment)
        return ramp.start + increments * ramp.increment

    def mtp_loss_scaling_factor(self, consumed_tokens: int) -> float:
        """Weight of the MTP loss in the next step."""
        for weight in self.mtp_loss:
            if weight.until_tokens is None or consumed_tokens < weight.until_tokens:
                return weight.mtp_loss_scaling_factor
        raise AssertionError("the configuration ends with until_tokens: null")

    def step_runs(self, first_step: int = 1, consumed_tokens: int = 0) -> Iterator[StepRun]:
        """The run from a step on, cut where the stage or the batch size changes (12 pieces for the whole MiMo-7B)."""
        consumed = consumed_tokens
        while consumed < self.total_tokens:
            stage, batch = self.stage_index(consumed), self.global_batch_size(consumed)
            step_tokens = batch * self.stages[stage].seq_length
            steps = -(-(self._next_change(consumed) - consumed) // step_tokens)
            yield StepRun(first_step, consumed, stage, batch, steps)
            first_step, consumed = first_step + steps, consumed + steps * step_tokens

    def steps(self) -> Iterator[PlannedStep]:
        """The whole run step by step (1 151 280 for MiMo-7B, half a second)."""
        for run in self.step_runs():
            step_tokens = run.global_batch_size * self.stages[run.stage].seq_length
            for i in range(run.steps):
                consumed = run.consumed_tokens + i * step_tokens
                yield PlannedStep(run.first_step + i, consumed, run.stage, run.global_batch_size)

    def stage_samples(self, stage: int) -> int:
        """Sequences that an uninterrupted run reads in one stage, overshoot of its last step included."""
        return sum(run.steps * run.global_batch_size for run in self.step_runs() if run.stage == stage)

    def samples_to_stage_end(self, consumed_tokens: int) -> int:
        """Sequences that the stage still reads from here, whatever batches brought the run here."""
        stage = self.stage_index(consumed_tokens)
        rest = itertools.takewhile(lambda run: run.stage == stage, self.step_runs(consumed_tokens=consumed_tokens))
        return sum(run.steps * run.global_batch_size for run in rest)

    def _next_change(self, consumed_tokens: int) -> int:
        """First count of consumed tokens after this one where the stage ends or the batch grows."""
        stage = self.stage_index(consumed_tokens)
        config, start = self.stages[stage], self._bounds[stage]
        ramp = config.batch_ramp
        if ramp is None or consumed_tokens - start >= ramp.tokens:
            return self._bounds[stage + 1]
        growth = config.global_batch_size - ramp.start
        done = (self.global_batch_size(consumed_tokens) - ramp.start) // ramp.increment
        if growth < (done + 1) * ramp.increment:
            return start + ramp.tokens
        return start - (-(done + 1) * ramp.increment * ramp.tokens // growth)


def _interpolate(segment: LearningRateSegment, progress: float) -> float:
    """Value of a segment after the fraction `progress` of its tokens."""
    if segment.kind == "constant":
        return segment.start
    if segment.kind == "linear":
        return segment.start + (segment.end - segment.start) * progress
    return segment.end + (segment.start - segment.end) * 0.5 * (1.0 + math.cos(math.pi * progress))
