"""Weights that Transformer Engine keeps in FP8 alone (`precision.fp8_parameters`): how values get into them and out.

The optimizer makes its fp32 copy of such a weight from a high-precision value that the weight brings along until then.
Transformer Engine fills it with the random value that the layer was born with; whoever writes a weight before there is
an optimizer writes that value too, or training would begin from the random one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from megatron.core.dist_checkpointing.utils import force_all_tensors_to_non_fp8
from megatron.core.fp8_utils import is_float8tensor
from torch import Tensor, nn


@torch.no_grad()
def write_weight(parameter: Tensor, values: Tensor) -> None:
    """Set an FP8 weight, and the exact value of which the optimizer will make its fp32 copy, where it has not yet."""
    parameter.copy_(values)
    exact = getattr(parameter, "get_high_precision_init_val", lambda: None)()
    if exact is not None:
        exact.copy_(values)


def load_weights_exactly(module: nn.Module, state: dict[str, Any]) -> None:
    """`load_state_dict`, not strict, after which the optimizer will begin from the loaded values themselves."""
    module.load_state_dict(state, strict=False)
    for name, parameter in module.named_parameters():
        if is_float8tensor(parameter) and isinstance(state.get(name), Tensor):
            write_weight(parameter, state[name])


@contextmanager
def filled_in_high_precision(shard: Any) -> Iterator[None]:
    """Within it a sharded FP8 weight holds a plain tensor to be filled; the weight takes its values at the end.

    The parts into which a weight's shard is cut are views of a plain tensor, but copies of an FP8 one.
    """
    weight = getattr(shard, "data", None)
    if not isinstance(weight, Tensor) or not is_float8tensor(weight):
        yield
        return
    shard.data = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    try:
        yield
        write_weight(weight, shard.data)
    finally:
        shard.data = weight


def in_high_precision(state: Any) -> Any:
    """A sharded state whose FP8 weights were replaced by what they stand for, to be written to a checkpoint."""
    force_all_tensors_to_non_fp8(state)
    return state
