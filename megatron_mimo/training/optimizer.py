"""AdamW on megatron-core's distributed optimizer, gradients and states in fp32."""

from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.optimizer import MegatronOptimizer, get_megatron_optimizer
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

from megatron_mimo.config import OptimizerConfig, PrecisionConfig
from megatron_mimo.model.gpt import MTPGPTModel
from megatron_mimo.model.precision import DTYPES


def wrap_data_parallel(chunks: list[MTPGPTModel]) -> list[DistributedDataParallel]:
    """Data-parallel wrappers with fp32 gradient buffers; communication overlaps compute where there is a GPU."""
    overlap = torch.cuda.is_available()
    config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=True,
        overlap_grad_reduce=overlap,
        overlap_param_gather=overlap,
        average_in_collective=False,
    )
    return [
        DistributedDataParallel(chunk.config, config, chunk, disable_bucketing=index > 0)
        for index, chunk in enumerate(chunks)
    ]


def build_optimizer(
    chunks: list[DistributedDataParallel], config: OptimizerConfig, precision: PrecisionConfig
) -> MegatronOptimizer:
    """AdamW with decoupled weight decay (none on norms and biases); the learning rate is set at every step."""
    optimizer = get_megatron_optimizer(
        MegatronOptimizerConfig(
            optimizer="adam",
            lr=0.0,
            weight_decay=config.weight_decay,
            adam_beta1=config.adam_beta1,
            adam_beta2=config.adam_beta2,
            adam_eps=config.adam_eps,
            clip_grad=config.clip_grad,
            bf16=precision.dtype == "bf16",
            params_dtype=DTYPES[precision.dtype],
            use_distributed_optimizer=True,
        ),
        chunks,
    )
    for part in distributed_parts(optimizer):
        if isinstance(part.optimizer, torch.optim.AdamW):
            for group in part.optimizer.param_groups:
                group["fused"] = True
    return optimizer


def distributed_parts(optimizer: MegatronOptimizer) -> list[DistributedOptimizer]:
    """The distributed optimizers inside a possibly chained optimizer."""
    parts: list[Any] = getattr(optimizer, "chained_optimizers", [optimizer])
    return parts


def set_learning_rate(optimizer: MegatronOptimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
