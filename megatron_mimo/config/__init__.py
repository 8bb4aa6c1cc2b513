"""Typed configuration: the one source of truth for every setting."""

from megatron_mimo.config.data import DataConfig, EvaluationConfig
from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.config.load import load, load_with_origins, to_yaml
from megatron_mimo.config.model import ModelConfig
from megatron_mimo.config.parallel import ParallelConfig
from megatron_mimo.config.precision import PrecisionConfig
from megatron_mimo.config.pretrain import PretrainConfig
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.config.run import (
    CheckpointConfig,
    GuardConfig,
    LoggingConfig,
    LoRAConfig,
    ResumeConfig,
    RunConfig,
    StartConfig,
)
from megatron_mimo.config.sft import ChatDataConfig, ChatSourceConfig, SFTConfig
from megatron_mimo.config.stages import (
    BatchRamp,
    LearningRateSegment,
    MTPLossWeight,
    OptimizerConfig,
    PretrainStageConfig,
    StageConfig,
)
from megatron_mimo.config.training import LoopConfig, TrainingConfig

__all__ = [
    "BatchRamp",
    "ChatDataConfig",
    "ChatSourceConfig",
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "EvaluationConfig",
    "GuardConfig",
    "LearningRateSegment",
    "LoRAConfig",
    "LoggingConfig",
    "LoopConfig",
    "MTPLossWeight",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PrecisionConfig",
    "PretrainConfig",
    "PretrainStageConfig",
    "RLConfig",
    "ResumeConfig",
    "RunConfig",
    "SFTConfig",
    "StageConfig",
    "StartConfig",
    "TrainingConfig",
    "UserError",
    "load",
    "load_with_origins",
    "to_yaml",
]
