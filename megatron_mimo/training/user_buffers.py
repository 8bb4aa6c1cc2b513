"""Transformer Engine's buffers for tensor-parallel communication beside products (`parallel.overlap_tensor_parallel`).

They have the shape of a stage's hidden states, so that each stage has its own.
"""

from contextlib import suppress
from typing import Any

from megatron_mimo.config import ParallelConfig, StageConfig, TrainingConfig


def prepare_user_buffers(config: TrainingConfig, stage: StageConfig) -> None:
    """Make the buffers of a stage where they are asked for, in place of another stage's. Every rank calls it."""
    parallel: ParallelConfig = config.layout(stage)
    if not parallel.overlap_tensor_parallel:
        return
    from transformer_engine.pytorch.module import base  # pyright: ignore[reportMissingImports]

    engine: Any = base
    with suppress(AssertionError, AttributeError):  # raised by versions in which there are none to destroy
        engine.destroy_ub()
    engine.initialize_ub(
        shape=buffer_shape(config, stage),
        tp_size=parallel.tensor_model_parallel_size,
        use_fp8=config.precision.fp8_recipe != "none",
        bootstrap_backend="nccl",
    )


def buffer_shape(config: TrainingConfig, stage: StageConfig) -> list[int]:
    """[T, h]: a micro-batch's whole hidden states on one context-parallel rank."""
    tokens = stage.micro_batch_size * stage.seq_length // config.layout(stage).context_parallel_size
    return [tokens, config.model.hidden_size]
