"""A megatron-core model of one process with the reference model's weights, and gradients under its names."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import to_megatron
from megatron_mimo.model.reference import ReferenceMiMo


def random_reference(model: ModelConfig, rotary_base: int) -> ReferenceMiMo:
    """Weights with nothing at its neutral value, so that a forgotten norm or bias shows."""
    torch.manual_seed(3)
    reference = ReferenceMiMo(model, rotary_base)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            scale = 0.3 if "norm" in name or name.endswith("bias") else 0.15
            parameter.copy_(("norm" in name) + scale * torch.randn_like(parameter))
    return reference


def same_model(reference: ReferenceMiMo, seq_length: int) -> Any:
    """Inside `build.single_process_group`."""
    from megatron_mimo.model.build import build_model

    (chunk,) = build_model(
        reference.config, ParallelConfig(), PrecisionConfig(dtype="fp32"), seq_length, int(reference_base(reference))
    )
    weights = megatron_named(reference.config, reference.state_dict().__getitem__)
    for name, parameter in chunk.named_parameters():
        parameter.data.copy_(weights[checkpoint_name(name)])
    return chunk


def megatron_named(model: ModelConfig, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Tensors of Hugging Face's names as a checkpoint of this program has them."""
    return dict(to_megatron(mimo_ops(model), read))


def checkpoint_name(parameter: str) -> str:
    """Checkpoints carry the fused names of norms."""
    for plain, fused in (
        ("input_layernorm.", "self_attention.linear_qkv.layer_norm_"),
        ("pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_"),
    ):
        parameter = parameter.replace(plain, fused)
    return parameter


def reference_base(reference: ReferenceMiMo) -> float:
    attention: Any = reference.model.layers[0].self_attn
    return attention.rotary_base
