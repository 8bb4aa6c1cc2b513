"""Weights from names: the same seed gives the same model in every parallel layout."""

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from megatron_mimo.config import ModelConfig
from megatron_mimo.model.fp8_parameters import filled_in_high_precision
from megatron_mimo.model.gpt import MTPGPTModel

RESIDUAL_OUTPUTS = ("linear_proj.weight", "linear_fc2.weight")


@torch.no_grad()
def initialize_weights(
    chunks: list[MTPGPTModel], model: ModelConfig, seed: int, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Fill every parameter from (seed, its global name), each rank cutting its shard out of the whole tensor.

    Norms are one, biases zero, the rest normal with `init_method_std`; the projections that write into the residual
    stream are scaled by 1/sqrt(2 * num_layers), megatron-core's default. Of low-rank updates B is zero and A uniform
    within 1/sqrt(inputs), as PEFT has it. Names that are not `wanted` are left alone.
    """
    metadata = {"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    for chunk in chunks:
        for shard in chunk.sharded_state_dict(metadata=metadata).values():
            with filled_in_high_precision(shard):
                for tensor in sharded_tensors(shard):
                    if wanted(tensor.key):
                        _fill(tensor, model, seed)


def is_low_rank(name: str) -> bool:
    """Whether a parameter belongs to a low-rank update (model.lora)."""
    return "_lora." in name


def sharded_tensors(state: Any) -> Iterator[ShardedTensor]:
    """Every ShardedTensor in a nested sharded state dict, factories built."""
    if isinstance(state, ShardedTensor):
        yield state
    elif isinstance(state, ShardedTensorFactory):
        yield from sharded_tensors(state.build())
    elif isinstance(state, dict):
        for value in state.values():
            yield from sharded_tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from sharded_tensors(value)


def _fill(shard: ShardedTensor, model: ModelConfig, seed: int) -> None:
    stacked = shard.prepend_axis_num
    name = f"{shard.key}{list(shard.global_offset[:stacked])}"
    whole = _whole_tensor(shard.key, name, tuple(shard.global_shape[stacked:]), model, seed)
    assert shard.data is not None
    cut = tuple(
        slice(offset, offset + length)
        for offset, length in zip(shard.global_offset[stacked:], shard.local_shape, strict=True)
    )
    shard.data.detach().copy_(whole[cut])


def _whole_tensor(key: str, name: str, shape: tuple[int, ...], model: ModelConfig, seed: int) -> torch.Tensor:
    if "norm" in key:
        return torch.ones(shape)
    if key.endswith(".bias") or "_lora.b." in key:
        return torch.zeros(shape)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    if is_low_rank(key):
        bound = 1 / math.sqrt(shape[1])
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)
    std = model.init_method_std
    if key.endswith(RESIDUAL_OUTPUTS):
        std /= math.sqrt(2 * model.num_layers)
    return torch.empty(shape).normal_(0.0, std, generator=generator)
