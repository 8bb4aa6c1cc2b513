"""Low-rank updates of a checkpoint: merged into the weights on export, or as an adapter folder that PEFT loads.

megatron-core fuses q, k, v and gate, up; their one A is every part's A in PEFT's form, and B is cut as the weight is.

Shapes: `o`utputs and `i`nputs of a linear layer, `r`ank.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import LoRAConfig, UserError
from megatron_mimo.convert.destination import check_absent, new_folder
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import Op, SwappedHalves
from megatron_mimo.convert.shards import write_safetensors
from megatron_mimo.training.checkpoint_record import CheckpointRecord

MARK = "_lora."
PEFT_PREFIX = "base_model.model."
_CARD = """---
{head}
---

# {name}

Low-rank updates of {base}, trained with megatron-mimo. {mtp}

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained(PATH, trust_remote_code=True)
```
"""


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


def export_adapter(
    checkpoint_folder: Path, destination: Path, base_model: str = "", *, without_mtp: bool = False
) -> int:
    """Write an adapter folder that PEFT loads; returns the number of adapted Hugging Face layers.

    `base_model`: name or folder of the model that the adapter belongs to, recorded for PEFT. `without_mtp` leaves out
    the updates of the MTP layers, which vLLM cannot load. Raises UserError, with nothing left, for a checkpoint without
    updates, a destination that exists and a failed write.
    """
    check_absent(destination)
    checkpoint = TorchDistCheckpoint(checkpoint_folder)
    lora = checkpoint.record.lora
    if lora is None:
        raise UserError(f"{checkpoint_folder} was trained without lora: export it as a model")
    model = checkpoint.record.model
    tensors = {
        f"{PEFT_PREFIX}{layer}.lora_{name}.weight": tensor.contiguous()
        for op in mimo_ops(model.without_mtp() if without_mtp else model)
        for layer, a, b in _adapted_layers(checkpoint, op)
        for name, tensor in (("A", a), ("B", b))
    }
    if not tensors:
        raise UserError(f"{checkpoint_folder} has updates of the MTP layers alone: export it as a model")
    layers = {name.removeprefix(PEFT_PREFIX).rsplit(".", 2)[0] for name in tensors}
    is_main = not any("mtp_layers" in layer for layer in layers)
    config = _adapter_config(lora, sorted({layer.rsplit(".", 1)[1] for layer in layers}), base_model, is_main)
    with new_folder(destination, needed_bytes=sum(tensor.nbytes for tensor in tensors.values())) as unfinished:
        with unfinished.file("adapter_model.safetensors", {}) as path:
            write_safetensors(path, {name: tensor.to("meta") for name, tensor in tensors.items()}, tensors.items())
        (unfinished.folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (unfinished.folder / "README.md").write_text(_adapter_card(checkpoint.record, base_model, is_main))
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


def _adapter_config(lora: LoRAConfig, target_modules: list[str], base_model: str, is_main: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": target_modules,
        # The MTP layers have linear layers of the same names.
        **({"exclude_modules": r".*mtp_layers.*"} if is_main else {}),
    }


def _adapter_card(record: CheckpointRecord, base_model: str, is_main: bool) -> str:
    """README.md: a hub wants to know the base model, and whoever loads the adapter how."""
    head = {"license": record.license or "unknown", "library_name": "peft", "pipeline_tag": "text-generation"}
    if base_model and not Path(base_model).exists():
        head["base_model"] = base_model
    lines = "\n".join(f"{name}: {value}" for name, value in head.items())
    mtp = "The MTP layers have no updates." if is_main else "The MTP layers have updates too."
    return _CARD.format(head=lines, name=record.name, base=Path(base_model).name or "its base model", mtp=mtp)
