"""What a policy reaches in a simulated cluster: seconds, idle time and its parts, waste; and the judge fitted to it."""

import statistics
from dataclasses import astuple, dataclass, replace

from rollout_model import Setup

from megatron_mimo.rl.scheduler.idle_time import busy_seconds
from megatron_mimo.rl.scheduler.policy import SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch

TRAINER_SHARE = 0.09
"""Of the naive step, from the report's columns."""
FIRST_GUESS, FIT_ROUNDS, FIT_TOLERANCE = 30.0, 3, 0.01
"""Of the judge's seconds per sample."""


@dataclass
class Result:
    """Means over the steps; idle time in parts that add up to `idle`."""

    seconds: float
    idle: float
    waste: float
    waiting: float
    """Share of the engines' time after the last response was generated: the judge alone works."""
    aborted: float
    """Share that went into responses that were thrown away unfinished."""

    def columns(self, naive: "Result") -> tuple[float, ...]:
        speedup = naive.seconds / self.seconds
        idle = self.idle * self.seconds / (naive.idle * naive.seconds)
        return overall(speedup), speedup, idle, self.idle, self.waste, self.waiting, self.aborted

    @classmethod
    def mean(cls, results: list["Result"]) -> "Result":
        return cls(*(statistics.mean(values) for values in zip(*map(astuple, results), strict=True)))


def measure(setup: Setup, policy: SchedulingPolicy) -> Result:
    """Over the setup's steps and seeds."""
    return Result.mean(
        [result(batch, setup) for seed in setup.seeds for batch in replace(setup, seed=seed).run(policy)]
    )


def result(batch: RolloutBatch, setup: Setup) -> Result:
    available = setup.num_engines * batch.seconds
    generations = [span for span in batch.spans if span.kind == "generation"]
    busy = busy_seconds(generations)
    running = busy_seconds(replace(span, finished=True) for span in generations)
    last = max(span.end_seconds for span in generations)
    return Result(
        seconds=batch.seconds,
        idle=1 - busy / available,
        waste=batch.waste_ratio,
        waiting=(batch.end_seconds - last) / batch.seconds,
        aborted=(running - busy) / available,
    )


def fit_judge(setup: Setup, policy: SchedulingPolicy, idle: float) -> Setup:
    """The judge's seconds per sample at which `policy` is as idle as the report's, found by regula falsi; 0 where it is
    more idle without any judge."""
    setup = replace(setup, steps=1)
    low, high = (0.0, measure(setup.with_judge(0.0), policy).idle), (FIRST_GUESS, 0.0)
    if low[1] >= idle:
        return setup.with_judge(0.0)
    for _ in range(FIT_ROUNDS):
        high = (high[0], measure(setup.with_judge(high[0]), policy).idle)
        if abs(high[1] - idle) < FIT_TOLERANCE:
            break
        # 1 / (1 - idle), the time over the busy time, grows about linearly with the judge's seconds.
        below, above, wanted = (1 / (1 - value) for value in (low[1], high[1], idle))
        guess = low[0] + (high[0] - low[0]) * (wanted - below) / (above - below)
        low, high = (high if high[1] < idle else low), (guess, 0.0)
    return setup.with_judge(high[0])


def overall(rollout_speedup: float) -> float:
    return 1 / (TRAINER_SHARE + (1 - TRAINER_SHARE) / rollout_speedup)
