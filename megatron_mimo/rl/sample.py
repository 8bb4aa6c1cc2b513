"""What travels from the rollout to the trainer: a prompt, its samples, and the group they form."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

FinishReason = Literal["stop", "length"]
REWARD_ROUNDING = 1e-9
"""Relative; scores differ by far more, sums of a thousand of them in another order by far less."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One problem as the engine sees it; the reward finds the problem by its `id`."""

    id: str
    tokens: tuple[int, ...] = ()
    domain: str = ""
    """For metrics alone: mathematics, code ..."""


@dataclass(kw_only=True)
class Sample:
    """One response to a prompt. Times are the scheduler clock's seconds."""

    tokens: Sequence[int]
    """The response without the prompt."""
    rollout_logprobs: Sequence[float]
    """The engine's, one a token; for diagnostics and the optional importance correction."""
    finish_reason: FinishReason = "stop"
    """`length`: cut at the token budget."""
    policy_version: int = 0
    engine: str = ""
    attempts: int = 1
    started_seconds: float = 0.0
    generated_seconds: float = 0.0
    scored_seconds: float | None = None
    reward: float | None = None
    solved: bool | None = None
    """Accuracy 1, whatever scores or penalties make of it: decides on the easy-data pool."""
    reward_parts: dict[str, float] = field(default_factory=dict)
    reward_details: dict[str, Any] = field(default_factory=dict)
    """JSON values for people who read rollouts."""

    @property
    def loss_mask(self) -> list[int]:
        """Every token of the response is trained on."""
        return [1] * len(self.tokens)

    @property
    def scored(self) -> bool:
        return self.reward is not None


class Outcome(StrEnum):
    """How a launched group ends; each ends in exactly one way."""

    SELECTED = "selected"
    """In the batch."""
    FILTERED = "filtered"
    """All rewards equal: no advantage, no gradient."""
    SURPLUS = "surplus"
    """Complete and usable, but the batch was full: sample waste."""
    ABORTED = "aborted"
    """Stopped before it was complete."""
    FAULTED = "faulted"
    """Engine or reward failed too often: dropped, never scored as 0."""


Origin = Literal["data", "easy_pool"]


@dataclass(kw_only=True)
class SampleGroup:
    """The samples of one prompt, complete or on the way."""

    prompt: Prompt
    launch_index: int
    """Place in the order of launches, over the whole run."""
    origin: Origin = "data"
    samples: list[Sample | None]
    """None: not generated yet."""
    outcome: Outcome | None = None
    fault: str = ""
    launched_seconds: float = 0.0
    completed_seconds: float | None = None

    @property
    def generated(self) -> bool:
        return all(sample is not None for sample in self.samples)

    @property
    def complete(self) -> bool:
        return all(sample is not None and sample.scored for sample in self.samples)

    @property
    def finished(self) -> list[Sample]:
        """The samples generated so far."""
        return [sample for sample in self.samples if sample is not None]

    @property
    def rewards(self) -> list[float]:
        """Of a complete group."""
        return [sample.reward for sample in self.finished if sample.reward is not None]

    @property
    def has_signal(self) -> bool:
        """Whether rewards differ by more than the rounding of their sums."""
        return has_signal(self.rewards)

    @property
    def all_solved(self) -> bool:
        """Pass rate 1."""
        return self.complete and all(sample.solved for sample in self.finished)

    @property
    def pass_rate(self) -> float:
        """Share of solved samples of a complete group."""
        return sum(bool(sample.solved) for sample in self.finished) / len(self.samples)


def has_signal(rewards: Sequence[float]) -> bool:
    """Whether a group's rewards differ. 0.1 + 0.2 and 0.3 are one reward: soft rewards are sums of scores."""
    return bool(rewards) and max(rewards) - min(rewards) > rounding(rewards)


def rounding(rewards: Sequence[float]) -> float:
    """Differences up to this come from adding floats in another order."""
    return REWARD_ROUNDING * max(1.0, *map(abs, rewards))
