"""Checkpoints with random low-rank updates, made of a Hugging Face folder without training."""

from dataclasses import replace
from pathlib import Path

import torch

from megatron_mimo.config import LoRAConfig
from megatron_mimo.convert.hf_import import import_record
from megatron_mimo.convert.megatron_writer import layer_chunk, write_chunks, write_metadata
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import to_megatron
from megatron_mimo.convert.safetensors_folder import HuggingFaceFolder
from megatron_mimo.training.checkpoint_record import write_record

LORA = LoRAConfig(rank=4, alpha=8.0)
FIRST_OF_MLP = ".linear_fc1."


def lora_checkpoint(model: Path, checkpoint: Path, size: float = 0.1, lora: LoRAConfig = LORA) -> Path:
    """The weights of `model` with an update beside every linear layer that `lora` targets; entries about `size`."""
    source = HuggingFaceFolder(model)
    config, generator = source.config.model, torch.Generator().manual_seed(3)
    weights = dict(to_megatron(mimo_ops(config), source.read))
    updates: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        is_wanted = lora.mtp_layers or not name.startswith("mtp.")
        if name != layer and layer.rpartition(".")[2] in lora.targets and is_wanted:
            outputs, inputs = weight.shape
            parts = 2 if FIRST_OF_MLP in name else 1
            updates[f"{layer}_lora.a"] = size * torch.randn(lora.rank, inputs, generator=generator)
            for part in range(parts):
                b = size * torch.randn(outputs // parts, lora.rank, generator=generator)
                updates[f"{layer}_lora.b.{part}"] = b
    checkpoint.mkdir(parents=True)
    tensors = weights | {name: tensor.to(weights["output_layer.weight"].dtype) for name, tensor in updates.items()}
    chunks = ((layer_chunk(name, tensor, config.num_layers), tensor) for name, tensor in tensors.items())
    write_metadata(checkpoint, {"__0_0.distcp": write_chunks(checkpoint / "__0_0.distcp", chunks)})
    write_record(checkpoint, replace(import_record(source, config, model), imported_from=None, lora=lora))
    return checkpoint
