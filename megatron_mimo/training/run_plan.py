"""What is ahead of a run, as far as those who show it need to know: how long its stages are, and where it ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from megatron_mimo.config import ModelConfig, StageConfig
from megatron_mimo.plan.flops import training_flops_per_token


@dataclass(frozen=True)
class StagePlan:
    """One stage; `tokens` as planned, or as it came."""

    name: str
    tokens: int
    flops_per_token: float


@dataclass(frozen=True)
class RunPlan:
    """`max_steps` ends the run before its stages do; None lets them end."""

    stages: tuple[StagePlan, ...]
    max_steps: int | None = None

    @property
    def total_tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)

    def ends_after(self, step: int, consumed_tokens: int) -> bool:
        """Whether the step after which so many tokens are consumed is the run's last one."""
        return consumed_tokens >= self.total_tokens or step == self.max_steps


def run_plan(model: ModelConfig, stages: Sequence[StageConfig], max_steps: int | None) -> RunPlan:
    """That of a run of `model` through `stages`."""
    plans = [
        StagePlan(stage.name, stage.length, training_flops_per_token(model, stage.seq_length).total) for stage in stages
    ]
    return RunPlan(tuple(plans), max_steps)
