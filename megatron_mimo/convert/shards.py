"""Stream named tensors into safetensors shards with an index, holding one shard in memory."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from megatron_mimo.config import UserError

MAX_SHARD_BYTES = 2 * 1024**3


def write_shards(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], max_shard_bytes: int = MAX_SHARD_BYTES
) -> torch.dtype:
    """Write `model-0000i-of-0000n.safetensors` and `model.safetensors.index.json`; returns the tensors' dtype.

    A shard holds at most `max_shard_bytes` bytes, or one tensor that is larger. Raises UserError at the first tensor
    that has a value that is not finite or a dtype unlike the first one's.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    pending_bytes = total_bytes = 0
    dtype: torch.dtype | None = None
    for name, tensor in tensors:
        dtype = dtype or tensor.dtype
        _check(name, tensor, dtype)
        if pending and pending_bytes + tensor.nbytes > max_shard_bytes:
            shards.append(_flush(folder, len(shards), pending))
            pending, pending_bytes = {}, 0
        pending[name] = tensor.contiguous()
        pending_bytes += tensor.nbytes
        total_bytes += tensor.nbytes
    if dtype is None:
        raise UserError("there are no tensors to write")
    shards.append(_flush(folder, len(shards), pending))
    _write_index(folder, shards, total_bytes)
    return dtype


def _check(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype:
        raise UserError(f"{name} is {tensor.dtype}, the tensors before it {dtype}: a folder holds one number format")
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{name} holds NaN or infinite values: the checkpoint is unusable, take an earlier one")


def _flush(folder: Path, index: int, tensors: dict[str, Tensor]) -> list[str]:
    save_file(tensors, folder / _partial_name(index), metadata={"format": "pt"})
    return list(tensors)


def _write_index(folder: Path, shards: list[list[str]], total_bytes: int) -> None:
    """Give the shards their final names, which hold the number of shards, and list who holds what."""
    weight_map: dict[str, str] = {}
    for index, names in enumerate(shards):
        file_name = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / _partial_name(index)).rename(folder / file_name).chmod(0o644)
        weight_map |= dict.fromkeys(names, file_name)
    content = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")


def _partial_name(index: int) -> str:
    return f"shard-{index:05d}.safetensors"
