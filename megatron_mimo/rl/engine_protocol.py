"""What the rollout scheduler asks of an engine and of a reward, and how they say that they failed.

Adapters translate their own errors into these; anything else that is raised counts as a bug and ends the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.config.rl import GenerationConfig
from megatron_mimo.rl.sample import FinishReason, Prompt, Sample


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One response to one prompt."""

    id: str
    """Unique among the requests in flight, retries included."""
    prompt: Prompt
    settings: GenerationConfig
    seed: int
    """A pure function of the run's seed, the launch, the sample and the attempt."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A complete response."""

    tokens: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: FinishReason = "stop"
    policy_version: int = 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """Reward of one response."""

    reward: float
    solved: bool
    """Accuracy 1."""
    parts: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """JSON values for people who read rollouts: verdict, tests."""


class RolloutFault(Exception):
    """A failure that says nothing about the response: it is retried, or its group dropped; never a reward of 0."""


class EngineDied(RolloutFault):
    """The engine is gone with all that it ran: restart it, run its requests elsewhere."""


class GenerationFailed(RolloutFault):
    """This request failed, the engine lives: try again."""


class RequestRejected(RolloutFault):
    """No engine will take this request (a prompt that is too long ...): drop the group at once."""


class ScoringFailed(RolloutFault):
    """Judge or verifier failed: score again."""


class NoEngines(Exception):
    """No engine is left, restarts included. What was collected is kept; the run can continue after a restart."""


class RolloutEngine(Protocol):
    """One engine. Calls overlap; cancelling a call aborts its request."""

    name: str
    max_concurrent_requests: int

    async def generate(self, request: GenerationRequest) -> Generation:
        """A complete response. Raises RolloutFault."""
        ...

    def abandon(self) -> None:
        """The scheduler holds this engine for dead, though it may only hang: end it, so that `restart` begins anew."""
        ...

    async def restart(self) -> None:
        """After EngineDied or `abandon`: come back with the current weights. Raises EngineDied where that fails."""
        ...


class UpdatableEngine(RolloutEngine, Protocol):
    """An engine whose weights follow the policy."""

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        """Load the Hugging Face folder, MTP drafter included, and forget cached prefixes; from now on `restart` comes
        back with these weights. No request may be in flight. Raises EngineDied."""
        ...


class RewardFunction(Protocol):
    """Scores a response; calls overlap."""

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        """Reads `sample.tokens`, changes nothing. Raises RolloutFault (ScoringFailed), which is retried."""
        ...
