"""Settings of `megatron-mimo curate-problems` for the steps that ask models."""

from dataclasses import dataclass, field

from megatron_mimo.clients.endpoint import EndpointConfig, Sampling
from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.rl import RewardConfig


@dataclass(kw_only=True)
class DifficultyConfig:
    """Rollouts of several models on every problem, and what their pass rates drop. Numbers of the report (3.1)."""

    trained: EndpointConfig
    """The (SFT) model that RL will train: what it solves too often goes."""
    advanced: list[EndpointConfig] = field(default_factory=list)
    """Stronger models: what none of them solves goes. Empty: nobody is asked."""
    num_rollouts: int = 16
    """Of each model."""
    max_math_pass_rate: float = 0.9
    """Mathematics solved more often than this by the model to be trained goes; code only where it is always solved."""
    trained_sampling: Sampling = field(
        default_factory=lambda: Sampling(temperature=1.0, top_p=1.0, max_new_tokens=32_768)
    )
    advanced_sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=32_768))
    math_instruction: str = "\n\nReason step by step, and put the final answer in \\boxed{}."
    """Added to every mathematics problem; the answer is read from its last box."""
    code_instruction: str = "\n\nGive the whole program in one code block."
    reward: RewardConfig = field(default_factory=RewardConfig)
    max_open_problems: int = 64
    """Problems that are asked at a time."""

    def __post_init__(self) -> None:
        require_at_least(1, "difficulty", num_rollouts=self.num_rollouts, max_open_problems=self.max_open_problems)
        if not 0 < self.max_math_pass_rate <= 1:
            raise ConfigError("max_math_pass_rate", self.max_math_pass_rate, "must be above 0 and at most 1")
        names = [endpoint.model for endpoint in self.advanced]
        if len(set(names)) != len(names):
            raise ConfigError("advanced", names, "names a model twice")
