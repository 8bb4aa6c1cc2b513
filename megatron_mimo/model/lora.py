"""Low-rank updates W + scale * B A of the linear layers (Hu et al., 2021), cut over tensor-parallel ranks as W is.

The update stands beside its layer (`linear_qkv_lora` beside `linear_qkv`), adds to that layer's output, and leaves the
layer itself, its weights and their names alone. Tied to the frozen weights only when a model is exported.

Shapes: `s`equence and `b`atch as the rank holds them, `i`nputs and `o`utputs of the rank's share of the layer, `r`ank.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch import Tensor
from torch.nn import Parameter

from megatron_mimo.config import LoRAConfig
from megatron_mimo.model.gpt import MTPGPTModel

COLUMN_LAYERS = ("linear_qkv", "linear_fc1", "eh_proj")
"""Layers whose outputs are shared out over tensor-parallel ranks."""
"""The inputs of the others are."""
SUFFIX = "_lora"
MTP = "mtp."
"""Where the MTP layers stand in a model chunk."""


class OutputFactor(torch.nn.Module):
    """The parts of B, called as a module: data-parallel wrappers gather new parameters in the hooks of modules."""

    def __init__(self, parts: list[Parameter]) -> None:
        super().__init__()
        for number, part in enumerate(parts):
            self.register_parameter(str(number), part)

    def __iter__(self) -> Iterator[Parameter]:
        return self.parameters()

    def forward(self, low_rank: Tensor) -> Tensor:
        """[s, b, r] -> [s, b, o]."""
        return torch.cat([F.linear(low_rank, part) for part in self], dim=-1)


class LowRankUpdate(MegatronModule):
    """scale * B A x for one linear layer; B's outputs come in `parts`, gate and up of the MLP's first layer."""

    def __init__(self, linear: Any, config: TransformerConfig, lora: LoRAConfig, is_column: bool, parts: int) -> None:
        super().__init__(config=config)
        outputs, inputs = linear.weight.shape
        self.scale, self.dropout, self.is_column = lora.scale, lora.dropout, is_column
        self.is_norm_inside = hasattr(
            linear, "layer_norm_weight"
        )  # Transformer Engine's layer takes the unnormed input
        like: dict[str, Any] = {"dtype": config.params_dtype, "device": linear.weight.device}
        self.a = Parameter(torch.empty(lora.rank, inputs, **like))
        self.b = OutputFactor([Parameter(torch.zeros(outputs // parts, lora.rank, **like)) for _ in range(parts)])
        whole, cut = ([self.a], list(self.b)) if is_column else (list(self.b), [self.a])
        for parameter in cut:
            set_tensor_model_parallel_attributes(parameter, True, 0 if is_column else 1, 1)
        for parameter in whole:
            # Each rank sees its part of the sequence only: the gradients are summed up as those of norms are.
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, inputs: Tensor) -> Tensor:
        """[s, b, i] as the linear layer takes it -> [s, b, o] as it returns it."""
        # Tensor-parallel ranks share the default random state, so their masks agree where their inputs do.
        low_rank: Any = F.linear(F.dropout(inputs, self.dropout, self.training), self.a)
        if self.config.sequence_parallel:
            exchange = gather_from_sequence_parallel_region if self.is_column else _scatter
        else:
            exchange = (
                copy_to_tensor_model_parallel_region if self.is_column else reduce_from_tensor_model_parallel_region
            )
        low_rank = exchange(low_rank)
        return self.b(low_rank) * self.scale

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None
    ) -> dict[str, Any]:
        """Axes of A and of every part of B that tensor-parallel ranks share out."""
        state = self.state_dict(prefix="", keep_vars=True)
        axes = {name: 0 for name in state if name != "a"} if self.is_column else {"a": 1}
        return make_sharded_tensors_for_checkpoint(state, prefix, axes, sharded_offsets)


def _scatter(tensor: Tensor) -> Tensor:
    return reduce_scatter_to_sequence_parallel_region(tensor)


def add_lora(chunks: list[MTPGPTModel], lora: LoRAConfig) -> None:
    """Freeze every weight and put an update beside each layer of `lora.targets`; A is still to be filled, B is zero."""
    for chunk in chunks:
        chunk.requires_grad_(False)
        for path, parent in list(chunk.named_modules()):
            if path.startswith(MTP) and not lora.mtp_layers:
                continue
            for name in lora.targets:
                if (linear := getattr(parent, name, None)) is not None and hasattr(linear, "weight"):
                    _add_beside(parent, name, linear, chunk.config, lora)


def _add_beside(parent: Any, name: str, linear: Any, config: TransformerConfig, lora: LoRAConfig) -> None:
    update = LowRankUpdate(linear, config, lora, name in COLUMN_LAYERS, parts=2 if name == "linear_fc1" else 1)
    setattr(parent, name + SUFFIX, update)

    def add(layer: Any, inputs: tuple, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        states = inputs[0]
        if update.is_norm_inside:
            states = F.rms_norm(states, states.shape[-1:], layer.layer_norm_weight, layer.eps)
        return output[0] + update(states), output[1]

    linear.register_forward_hook(add)
