"""Sequences cut over context-parallel ranks: which places a rank holds, and how it gets the keys of all places.

Each row is cut into 2*CP pieces, of which rank r holds pieces r and 2*CP-1-r: the early places of causal attention have
little work and the late ones much, and so every rank has the same.

Shapes: `s` places of the rank, `S` of the whole sequence, `b`atch, `g` key/value heads, `d` head size.
"""

from typing import Any

import torch
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor


def zigzag_ranges(seq_length: int, cp_rank: int, cp_size: int) -> list[tuple[int, int]]:
    """First place, and the one after the last, of each piece of a row that a context-parallel rank holds."""
    if cp_size == 1:
        return [(0, seq_length)]
    length = seq_length // (2 * cp_size)
    return [(piece * length, (piece + 1) * length) for piece in (cp_rank, 2 * cp_size - 1 - cp_rank)]


def zigzag_positions(seq_length: int, cp_rank: int, cp_size: int) -> Tensor:
    """The places of a row that a context-parallel rank holds, int64 [s]."""
    return torch.cat([torch.arange(*places) for places in zigzag_ranges(seq_length, cp_rank, cp_size)])


def gather_whole_rows(key: Tensor, value: Tensor, group: Any, num_rows: int = 1) -> tuple[Tensor, Tensor]:
    """Keys and values [s,b,g,d] of every rank -> [S,b,g,d] in the order of the sequence; gradients find their way back.

    `num_rows`: rows of the data that follow each other in a packed row, each of them cut into its own pieces.
    """
    size, d = group.size(), key.shape[-1]
    gathered = gather_from_sequence_parallel_region(
        torch.cat([key, value], dim=-1), tensor_parallel_output_grad=True, group=group
    )
    pieces = gathered.unflatten(0, (size, num_rows, 2, -1))
    key, value = (_ordered(part) for part in pieces.split(d, dim=-1))
    return key, value


def _ordered(pieces: Tensor) -> Tensor:
    """[CP, rows, 2, piece, ...] -> [rows * 2*CP * piece, ...]."""
    early, late = pieces[:, :, 0].unbind(), pieces[:, :, 1].unbind()
    return torch.stack([*early, *reversed(late)]).transpose(0, 1).flatten(0, 2)
