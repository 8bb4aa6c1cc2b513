"""Settings of the rollout that are not policy: sizes, limits, retries."""

from dataclasses import dataclass, field

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.rl.engine_protocol import GenerationSettings


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """What is tried how often before a group is dropped."""

    max_generation_attempts: int = 5
    """Of one sample. An engine's death counts against every sample that it ran."""
    max_reward_attempts: int = 3
    delay_seconds: float = 1.0
    """Before the second attempt; doubles with each, up to max_delay_seconds."""
    max_delay_seconds: float = 60.0
    generation_timeout_seconds: float | None = None
    reward_timeout_seconds: float | None = 600.0
    max_restarts: int = 5
    """Deaths of an engine in a row, without a finished request in between, before it is given up."""

    def pause_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row, 1 or more."""
        return min(self.max_delay_seconds, self.delay_seconds * 2 ** min(failures - 1, 60))

    def __post_init__(self) -> None:
        require_at_least(1, "retry", max_generation_attempts=self.max_generation_attempts)
        require_at_least(1, "retry", max_reward_attempts=self.max_reward_attempts)
        require_at_least(0, "retry", delay_seconds=self.delay_seconds, max_restarts=self.max_restarts)
        for name in ("generation_timeout_seconds", "reward_timeout_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"retry.{name}", value, "must be above 0, or null")


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """One step's rollout."""

    num_groups: int = 512
    """Prompts a batch."""
    samples_per_prompt: int = 16
    seed: int = 1234
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    max_concurrent_rewards: int = 256
    max_pending_rewards: int = 4096
    """Back-pressure: no launches while more finished samples than this wait for their reward."""
    max_launched_groups: int = 0
    """Groups of one step before it gives up (all prompts too easy or too hard); 0: 20 times num_groups."""
    survival_prior: float = 0.5
    """Share of prompts expected to pass dynamic sampling, before the first one did."""
    survival_weight_groups: int = 64
    """Groups of the present step that weigh as much as the steps before."""

    def __post_init__(self) -> None:
        require_at_least(1, "rollout", num_groups=self.num_groups, samples_per_prompt=self.samples_per_prompt)
        require_at_least(1, "rollout", max_concurrent_rewards=self.max_concurrent_rewards)
        require_at_least(1, "rollout", survival_weight_groups=self.survival_weight_groups)
        require_at_least(0, "rollout", max_pending_rewards=self.max_pending_rewards)
        if not 0 < self.survival_prior <= 1:
            raise ConfigError("rollout.survival_prior", self.survival_prior, "must be above 0 and at most 1")
        if self.max_launched_groups and self.max_launched_groups < self.num_groups:
            raise ConfigError("rollout.max_launched_groups", self.max_launched_groups, "must cover num_groups, or be 0")

    @property
    def launch_limit(self) -> int:
        return self.max_launched_groups or 20 * self.num_groups
