"""Invertible operations between two namings of the same weights.

An operation knows the names it reads on either side and computes either side from the other, without arithmetic:
going there and back returns every bit. Both directions of a conversion, the shapes expected on each side (run the
operations on `meta` tensors) and what each tensor-parallel rank holds (`split`, `merge`) come from one list of them.

Shapes: `h` columns of a projection, `g` key/value groups, `n` query heads, `d` size of a head.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from megatron_mimo.config import UserError


@dataclass(frozen=True)
class Op(ABC):
    """One weight or one group of weights that belong together: `megatron` names <-> `hugging_face` names."""

    megatron: tuple[str, ...]
    hugging_face: tuple[str, ...]
    tensor_parallel_axis: int | None = field(default=None, kw_only=True)
    """Axis of the Megatron tensors that tensor-parallel ranks share out; None: every rank holds the whole."""

    @abstractmethod
    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors in the order of `megatron` -> tensors in the order of `hugging_face`."""

    @abstractmethod
    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        """The inverse."""

    def split(self, tensor: Tensor, ranks: int) -> list[Tensor]:
        """What each tensor-parallel rank holds of a Megatron tensor; UserError where it cannot be shared out evenly."""
        if self.tensor_parallel_axis is None:
            return [tensor] * ranks
        return _even_parts(tensor, ranks, self.tensor_parallel_axis, self.megatron[0])

    def merge(self, shards: list[Tensor]) -> Tensor:
        """The inverse."""
        return shards[0] if self.tensor_parallel_axis is None else torch.cat(shards, dim=self.tensor_parallel_axis)


class Rename(Op):
    """The same tensor under another name."""

    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors


@dataclass(frozen=True)
class FusedQKV(Op):
    """One weight [g * (n/g + 2) * d, ...], group by group q..q k v, <-> q [n * d, ...], k and v [g * d, ...]."""

    num_query_groups: int
    heads_per_group: int

    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        (fused,) = tensors
        groups = fused.unflatten(0, (self.num_query_groups, self.heads_per_group + 2, -1))
        return [part.flatten(0, 2) for part in groups.split([self.heads_per_group, 1, 1], dim=1)]

    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        widths = (self.heads_per_group, 1, 1)
        parts = [t.unflatten(0, (self.num_query_groups, w, -1)) for t, w in zip(tensors, widths, strict=True)]
        return [torch.cat(parts, dim=1).flatten(0, 2)]


class FusedGateUp(Op):
    """One weight [2 * ffn, h], gate above up, <-> gate and up [ffn, h]."""

    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        return list(tensors[0].chunk(2, dim=0))

    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        return [torch.cat(tensors, dim=0)]

    def split(self, tensor: Tensor, ranks: int) -> list[Tensor]:
        """Every rank holds its part of gate above its part of up."""
        halves = [_even_parts(half, ranks, 0, self.megatron[0]) for half in tensor.chunk(2, dim=0)]
        return [torch.cat(pair, dim=0) for pair in zip(*halves, strict=True)]

    def merge(self, shards: list[Tensor]) -> Tensor:
        pairs = [shard.chunk(2, dim=0) for shard in shards]
        return torch.cat([half for halves in zip(*pairs, strict=True) for half in halves], dim=0)


class SwappedHalves(Op):
    """[rows, 2 * h] with the two halves of its columns in the other order."""

    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        left, right = tensors[0].chunk(2, dim=1)
        return [torch.cat([right, left], dim=1)]

    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        return self.to_hugging_face(tensors)


@dataclass(frozen=True)
class PaddedVocabulary(Op):
    """Megatron's rows are Hugging Face's followed by zeros up to `padded_rows` (equal counts: a rename)."""

    rows: int
    padded_rows: int

    def to_hugging_face(self, tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[0][: self.rows]]

    def to_megatron(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.rows == self.padded_rows:
            return tensors
        padding = tensors[0].new_zeros(self.padded_rows - self.rows, *tensors[0].shape[1:])
        return [torch.cat([tensors[0], padding])]


def _even_parts(tensor: Tensor, ranks: int, axis: int, name: str) -> list[Tensor]:
    if tensor.shape[axis] % ranks:
        raise UserError(f"{name} {list(tensor.shape)} cannot be shared out evenly over {ranks} tensor-parallel ranks")
    return list(tensor.chunk(ranks, dim=axis))


def to_hugging_face(ops: Iterable[Op], read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Read Megatron tensors by name, one operation at a time, and yield (Hugging Face name, tensor)."""
    for op in ops:
        outputs = op.to_hugging_face([read(name) for name in op.megatron])
        yield from zip(op.hugging_face, outputs, strict=True)


def to_megatron(ops: Iterable[Op], read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Read Hugging Face tensors by name, one operation at a time, and yield (Megatron name, tensor)."""
    for op in ops:
        outputs = op.to_megatron([read(name) for name in op.hugging_face])
        yield from zip(op.megatron, outputs, strict=True)


def check_shapes(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], where: str) -> None:
    """Raise UserError that lists, by name, every missing, extra and misshaped tensor."""
    problems = [f"missing   {name} {list(expected[name])}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"extra     {name} {list(found[name])}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"misshaped {name}: {list(found[name])}, the model needs {list(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    if problems:
        raise UserError(
            f"the tensors in {where} are not those of this model:\n  "
            + "\n  ".join(problems)
            + "\nthe file that describes the model (config.json, run.json) belongs to other weights: get both anew"
        )
