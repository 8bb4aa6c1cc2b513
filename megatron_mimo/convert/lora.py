"""Low-rank updates of a checkpoint: merged into the weights on export, or as an adapter folder that PEFT loads.

megatron-core fuses q, k, v and gate, up; their one A is every part's A in PEFT's form, and B is cut as the weight is.

Shapes: `o`utputs and `i`nputs of a linear layer, `r`ank.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from megatron_mimo.config import LoRAConfig, UserError
from megatron_mimo.convert.destination import check_absent
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import Op, SwappedHalves

MARK = "_lora."
PEFT_PREFIX = "base_model.model."


class MergedWeights:
    """A checkpoint's weights with its low-rank updates added: W + scale * B A, in W's number format."""

    def __init__(self, checkpoint: TorchDistCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._lora = checkpoint.record.lora
        self.shapes = {name: shape for name, shape in checkpoint.shapes.items() if MARK not in name}

    @property
    def identity(self) -> dict[str, Any]:
        """The checkpoint's."""
        return self._checkpoint.identity

    def read_meta(self, name: str) -> Tensor:
        """Shape and number format."""
        return self._checkpoint.read_meta(name)

    def read(self, name: str) -> Tensor:
        """The weight, updated where there is an update."""
        weight = self._checkpoint.read(name)
        factors = read_factors(self._checkpoint, name)
        if factors is None or self._lora is None:
            return weight
        a, b = factors
        return (weight.float() + self._lora.scale * (b.float() @ a.float())).to(weight.dtype)


def read_factors(checkpoint: TorchDistCheckpoint, weight: str) -> tuple[Tensor, Tensor] | None:
    """A [r, i] and B [o, r] of the update of a Megatron weight; None where it has none."""
    prefix = weight.removesuffix(".weight") + MARK
    if not weight.endswith(".weight") or f"{prefix}a" not in checkpoint.shapes:
        return None
    parts = sorted(name for name in checkpoint.shapes if name.startswith(f"{prefix}b."))
    return checkpoint.read(f"{prefix}a"), torch.cat([checkpoint.read(name) for name in parts])


def export_adapter(checkpoint_folder: Path, destination: Path, base_model: str = "") -> int:
    """Write `adapter_config.json` and `adapter_model.safetensors`; returns the number of adapted Hugging Face layers.

    `base_model`: name or folder of the model that the adapter belongs to, recorded for PEFT. Raises UserError for a
    checkpoint without updates and a destination that exists.
    """
    check_absent(destination)
    checkpoint = TorchDistCheckpoint(checkpoint_folder)
    lora = checkpoint.record.lora
    if lora is None:
        raise UserError(f"{checkpoint_folder} was trained without lora: export it as a model")
    tensors = {
        f"{PEFT_PREFIX}{layer}.lora_{name}.weight": tensor.contiguous().clone()
        for op in mimo_ops(checkpoint.record.model)
        for layer, a, b in _adapted_layers(checkpoint, op)
        for name, tensor in (("A", a), ("B", b))
    }
    temporary = destination.with_name(f".{destination.name}.partial")
    temporary.mkdir(parents=True, exist_ok=True)
    save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
    layers = {name.removeprefix(PEFT_PREFIX).rsplit(".", 2)[0] for name in tensors}
    config = _adapter_config(lora, sorted({layer.rsplit(".", 1)[1] for layer in layers}), base_model)
    (temporary / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    temporary.rename(destination)
    return len(layers)


def _adapted_layers(checkpoint: TorchDistCheckpoint, op: Op) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(Hugging Face layer, A, B) of every layer that an operation makes of an updated weight."""
    factors = read_factors(checkpoint, op.megatron[0])
    if factors is None:
        return
    a, b = factors
    # Whatever an operation does to rows concerns B, whatever it does to columns concerns A.
    swaps_columns = isinstance(op, SwappedHalves)
    (a,) = op.to_hugging_face([a]) if swaps_columns else (a,)
    parts = [b] if swaps_columns else op.to_hugging_face([b])
    for name, part in zip(op.hugging_face, parts, strict=True):
        yield name.removesuffix(".weight"), a, part


def _adapter_config(lora: LoRAConfig, target_modules: list[str], base_model: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": target_modules,
    }
