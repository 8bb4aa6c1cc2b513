"""The root of a pre-training configuration file."""

from dataclasses import dataclass

from megatron_mimo.config.stages import PretrainStageConfig
from megatron_mimo.config.training import TrainingConfig


@dataclass(kw_only=True)
class PretrainConfig(TrainingConfig):
    """One pre-training run: `megatron-mimo pretrain CONFIG.yaml` reads exactly this."""

    stages: list[PretrainStageConfig]
