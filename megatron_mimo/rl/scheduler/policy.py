"""When to launch, when to score, when to stop, what to keep: the report's engine and its baselines as settings.

| policy | launches | rewards | stops | report's row |
|---|---|---|---|---|
| STATIC | one batch | after the generation | all done | static sampling |
| NAIVE | rounds of a batch (or more) until enough survive | after each round | a round is done | naive |
| CONTINUOUS | while the active are not expected to fill the batch | a few at a time | all done | + continuous |
| ASYNCHRONOUS | the same | concurrent | all done | + asynchronous reward |
| SEAMLESS | the same, with a margin where it is free | concurrent | first in, first out | + early termination |
| FIRST_FINISHED | the same | concurrent | first full batch | none: it prefers short responses |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config import ConfigError
from megatron_mimo.rl.sample import SampleGroup
from megatron_mimo.rl.scheduler.ledger import StepLedger, SurvivalEstimate


@dataclass(frozen=True, kw_only=True)
class SchedulingPolicy:
    """One row of the table above."""

    name: str
    launch: Literal["once", "rounds", "continuous"]
    rewards: Literal["after_generation", "on_arrival"]
    stop: Literal["all_done", "first_in_first_out", "first_finished"]
    dynamic_sampling: bool = True
    """Keep only groups whose rewards differ."""
    reward_concurrency: int | None = None
    """Rewards at a time; null: the rollout settings' max_concurrent_rewards."""
    launch_deviations: float = 0.0
    """For `continuous`: count up to this many standard deviations fewer survivors among the active groups than are
    expected, so that what would be missing late is launched early. All of them where further groups slow no other one
    (engines that wait for memory, a judge without a queue), none where all share a fixed speed, and none before that is
    measured. The report's rule is 0."""
    round_ratio: float = 1.0
    """Groups a round over the batch size, for `rounds`."""

    def __post_init__(self) -> None:
        if self.round_ratio < 1:
            raise ConfigError("round_ratio", self.round_ratio, "must be at least 1")
        if self.launch_deviations < 0:
            raise ConfigError("launch_deviations", self.launch_deviations, "must not be negative")

    def keeps(self, group: SampleGroup) -> bool:
        """Whether a complete group may enter the batch."""
        return group.has_signal or not self.dynamic_sampling

    def num_to_launch(self, step: StepLedger, survival: SurvivalEstimate, load_cost: float = 1.0) -> int:
        """Groups that are missing, by what the active ones are expected to bring.

        load_cost: of a further group to the others, 0 to 1 (health.LoadCost); unknown: 1.
        """
        if self.launch == "once":
            return max(0, step.num_groups - step.num_active - step.num_usable)
        if self.launch == "rounds":
            round_is_over = step.num_active == 0 and step.num_usable < step.num_groups
            return math.ceil(step.num_groups * self.round_ratio) if round_is_over else 0
        rate = survival.rate(step.num_usable, step.num_complete)
        deviations = self.launch_deviations * (1 - load_cost)
        wanted = groups_for(step.num_groups - step.num_usable, rate, deviations)
        return max(0, wanted - step.num_active)

    def choose(self, step: StepLedger) -> list[SampleGroup] | None:
        """The batch, once the step is over; None before."""
        return STOP_RULES[self.stop](step)


def groups_for(needed: int, survival: float, deviations: float) -> int:
    """Fewest groups n of which `needed` survive with a margin: n p - deviations * sqrt(n p (1 - p)) >= needed.

    The margin is for the groups' own chance alone. The doubt about the estimate p, which a step's first groups dispel,
    would launch a fifth more at its start: in simulation that costs more than it saves (benchmarks/rollout_sim.py).
    """
    if needed <= 0:
        return 0
    variance = deviations**2 * survival * (1 - survival)
    linear = 2 * needed * survival + variance
    root = math.sqrt(max(0.0, linear**2 - 4 * survival**2 * needed**2))
    return ceiling((linear + root) / (2 * survival**2))


def ceiling(groups: float) -> int:
    """Rounded up; survival is far coarser than 1e-9, without which 1 / 0.1 can be one too many."""
    return math.ceil(groups * (1 - 1e-9))


def when_all_done(step: StepLedger) -> list[SampleGroup] | None:
    enough = step.num_usable >= step.num_groups and step.num_active == 0
    return step.usable_in_launch_order() if enough else None


def first_in_first_out(step: StepLedger) -> list[SampleGroup] | None:
    """The first usable groups by launch, once everything launched before the last of them has ended.

    Which prompts these are does not depend on how long their responses are.
    """
    return step.usable_in_launch_order() if step.num_usable_in_front >= step.num_groups else None


def first_finished(step: StepLedger) -> list[SampleGroup] | None:
    return step.usable_in_finishing_order() if step.num_usable >= step.num_groups else None


STOP_RULES: dict[str, Callable[[StepLedger], list[SampleGroup] | None]] = {
    "all_done": when_all_done,
    "first_in_first_out": first_in_first_out,
    "first_finished": first_finished,
}

STATIC = SchedulingPolicy(
    name="static", launch="once", rewards="after_generation", stop="all_done", dynamic_sampling=False
)
NAIVE = SchedulingPolicy(name="naive", launch="rounds", rewards="after_generation", stop="all_done")
CONTINUOUS = SchedulingPolicy(
    name="continuous", launch="continuous", rewards="on_arrival", stop="all_done", reward_concurrency=16
)
ASYNCHRONOUS = SchedulingPolicy(name="asynchronous", launch="continuous", rewards="on_arrival", stop="all_done")
SEAMLESS = SchedulingPolicy(
    name="seamless", launch="continuous", rewards="on_arrival", stop="first_in_first_out", launch_deviations=0.5
)
FIRST_FINISHED = SchedulingPolicy(
    name="first_finished", launch="continuous", rewards="on_arrival", stop="first_finished"
)
POLICIES = {policy.name: policy for policy in (STATIC, NAIVE, CONTINUOUS, ASYNCHRONOUS, SEAMLESS, FIRST_FINISHED)}
