"""The present weights of all ranks under Hugging Face names, for the rollout engines: as a folder, or broadcast."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from torch import Tensor

from megatron_mimo.config import UserError
from megatron_mimo.convert.huggingface import FolderSettings, convert_to_hugging_face
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import Op, to_hugging_face
from megatron_mimo.convert.shards import check_finite
from megatron_mimo.convert.weights import WeightsInMemory
from megatron_mimo.model.initialize import sharded_tensors
from megatron_mimo.rl.weight_broadcast import MeetingPoint, WeightBroadcast


@dataclass(frozen=True)
class Piece:
    """Part of a whole Megatron tensor that one rank holds."""

    name: str
    whole_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype


def write_weights(chunks: list[Any], settings: FolderSettings, padded_vocab_size: int, folder: Path) -> None:
    """Every rank calls it; rank 0 writes `folder`, which appears complete, and replaces what is there.

    chunks: data-parallel wrappers. The folder holds what the export of a checkpoint of this moment would, MTP layers
    included. Raises UserError on every rank where rank 0 cannot write.
    """
    weights = gather_weights(chunk.module for chunk in chunks)
    error: list[str | None] = [None]
    if dist.get_rank() == 0:
        error = [_write(folder, settings, padded_vocab_size, weights)]
    dist.broadcast_object_list(error, src=0)
    if error[0]:
        raise UserError(error[0])


def broadcast_weights(
    chunks: list[Any], settings: FolderSettings, padded_vocab_size: int, point: MeetingPoint
) -> str | None:
    """Every rank calls it; rank 0 sends what `write_weights` would write to the receivers that come to `point`.

    Returns what went wrong on the way to them, or None. Raises UserError on rank 0 for a value that is not finite.
    """
    weights = gather_weights(chunk.module for chunk in chunks)
    if dist.get_rank() != 0:
        return None
    device = torch.device(torch.cuda.current_device())
    named = to_hugging_face(_ops(settings, padded_vocab_size), check_finite(WeightsInMemory(weights).read))
    try:
        WeightBroadcast(point, 0, device).send(named)
    except RuntimeError as error:  # torch's distributed errors among them
        return str(error)
    return None


def _ops(settings: FolderSettings, padded_vocab_size: int) -> list[Op]:
    return mimo_ops(replace(settings.model, vocab_size=padded_vocab_size), settings.model.vocab_size)


def _write(folder: Path, settings: FolderSettings, padded_vocab_size: int, weights: dict[str, Tensor]) -> str | None:
    """What went wrong, or None."""
    fresh = folder.with_name(f"{folder.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        convert_to_hugging_face(fresh, settings, _ops(settings, padded_vocab_size), WeightsInMemory(weights))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    except (OSError, UserError) as failure:
        return f"the weights could not be written to {folder}: {failure}"
    return None


def gather_weights(models: Iterable[Any]) -> dict[str, Tensor]:
    """Whole tensors on the CPU of rank 0 by Megatron name, layers unstacked; nothing on the other ranks."""
    own = [(piece, tensor) for model in models for piece, tensor in _own_pieces(model)]
    places: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(places, [piece for piece, _ in own])
    if dist.get_rank() != 0:
        for _, tensor in own:
            dist.send(tensor, dst=0)
        return {}
    weights: dict[str, Tensor] = {}
    for rank, pieces in enumerate(places):
        for number, piece in enumerate(pieces):
            values = own[number][1] if rank == 0 else _receive(piece, rank)
            if piece.name not in weights:
                weights[piece.name] = torch.empty(piece.whole_shape, dtype=piece.dtype, device="cpu")
            cut = tuple(slice(o, o + n) for o, n in zip(piece.offset, piece.shape, strict=True))
            weights[piece.name][cut] = values.to("cpu")
    return weights


def _receive(piece: Piece, rank: int) -> Tensor:
    values = torch.empty(piece.shape, dtype=piece.dtype, device=torch.cuda.current_device())
    dist.recv(values, src=rank)
    return values


def _own_pieces(model: Any) -> list[tuple[Piece, Tensor]]:
    """What this rank is the one to give, of everything that several ranks hold."""
    metadata = {"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    shards = sharded_tensors(model.sharded_state_dict(metadata=metadata))
    return [_piece(shard) for shard in shards if not any(_numbers(shard.replica_id))]


def _numbers(replica_id: Any) -> tuple[int, ...]:
    return replica_id if isinstance(replica_id, tuple) else (replica_id,)


def _piece(shard: ShardedTensor) -> tuple[Piece, Tensor]:
    assert shard.data is not None
    stacked = shard.prepend_axis_num
    name = shard.key
    if stacked:
        before, after = shard.key.split("layers.", 1)
        name = f"{before}layers.{shard.global_offset[0]}.{after}"
    whole, offset = tuple(shard.global_shape[stacked:]), tuple(shard.global_offset[stacked:])
    tensor = shard.data.detach().contiguous()
    return Piece(name, whole, offset, tuple(shard.local_shape), tensor.dtype), tensor
