"""megatron-core's distributed optimizer with a state that no rank ever gathers.

A data-parallel rank owns a range of every flattened tensor. megatron-core's own reshardable form has each rank collect
all ranges before a save and before a load: 12 bytes per parameter of host memory, on every rank. Here a rank saves and
loads its own ranges, cut into boxes of the whole tensors and under the same names, so that any layout reads what any
other wrote, and reads megatron-core's form.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

PREFIX = "optimizer.state"
"""Of the names in a checkpoint; with the weight's own name, megatron-core's."""


@dataclass(frozen=True)
class Box:
    """A rectangle of a row-major tensor that holds the elements `start` to `start + prod(lengths)`."""

    offset: tuple[int, ...]
    lengths: tuple[int, ...]
    start: int


def boxes(shape: tuple[int, ...], start: int, end: int) -> Iterator[Box]:
    """The boxes that make up elements `start` to `end` of a flattened tensor, in their order: at most 2 x dims - 1."""
    if start >= end:
        return
    if len(shape) <= 1:
        yield Box((start,) if shape else (), (end - start,) if shape else (), start)
        return
    row = math.prod(shape[1:])
    first, last = -(-start // row), end // row
    if first > last:
        yield from _in_row(shape, start // row, start, end)
        return
    yield from _in_row(shape, first - 1, start, first * row)
    if last > first:
        yield Box((first, *[0] * (len(shape) - 1)), (last - first, *shape[1:]), first * row)
    yield from _in_row(shape, last, last * row, end)


def _in_row(shape: tuple[int, ...], index: int, start: int, end: int) -> Iterator[Box]:
    begin = index * math.prod(shape[1:])
    for box in boxes(shape[1:], start - begin, end - begin):
        yield Box((index, *box.offset), (1, *box.lengths), begin + box.start)


class ShardwiseOptimizer(DistributedOptimizer):
    """Saves and loads as this module's head says; everything else is megatron-core's."""

    def sharded_param_state_fully_reshardable(
        self, model_sharded_state_dict: Any, is_loading: bool = False, metadata: Any = None
    ) -> dict[int, dict[str, list[ShardedTensor]]]:
        """Per weight of which this rank owns a part, and per kind of state: the part's boxes, in order."""
        weights = {shard.data: shard for shard in nested_values(model_sharded_state_dict) if _is_weight(shard)}
        state = {}
        for number, (parameter, start, end) in enumerate(self._owned_ranges()):
            tensors = self._get_main_param_and_optimizer_states(parameter)
            state[number] = {
                name: list(_pieces(f"{PREFIX}.{name}", weights[parameter], tensor, start, end, is_loading))
                for name, tensor in tensors.items()
                if name != "step"
            }
        return state

    @torch.no_grad()
    def load_parameter_state_from_fully_reshardable(self, state_dict: dict[int, dict[str, list[torch.Tensor]]]) -> None:
        """Take what was loaded for the boxes of `sharded_param_state_fully_reshardable`."""
        for number, (parameter, _, _) in enumerate(self._owned_ranges()):
            tensors = {
                name: torch.cat([part.flatten() for part in parts]) for name, parts in state_dict[number].items()
            }
            self._set_main_param_and_optimizer_states(parameter, tensors)

    def _owned_ranges(self) -> Iterator[tuple[torch.nn.Parameter, int, int]]:
        """This rank's range of every flattened weight of which it owns any."""
        for by_dtype in self.gbuf_ranges:
            for buckets in by_dtype.values():
                for bucket in buckets:
                    for parameter, ranges in bucket["param_map"].items():
                        yield parameter, ranges["param"].start, ranges["param"].end


class ResumableDistributedOptimizer(ShardwiseOptimizer):
    """ShardwiseOptimizer whose torch AdamW states survive a load.

    megatron-core sets Adam's `step` apart from the sharded states, but walks over it as one of them, and its loader
    leaves one shared `step` tensor in every state, which each parameter's update would advance.
    """

    def _set_main_param_and_optimizer_states(self, model_param: torch.nn.Parameter, tensors: dict[str, Any]) -> None:
        group_index, group_order = self.model_param_group_index_map[model_param]
        state = self.optimizer.state[self.optimizer.param_groups[group_index]["params"][group_order]]
        state["step"] = state["step"].clone()
        super()._set_main_param_and_optimizer_states(model_param, tensors | {"step": state["step"]})


def _is_weight(shard: Any) -> bool:
    return isinstance(shard, ShardedTensor | ShardedTensorFactory)


def _pieces(
    prefix: str, weight: Any, tensor: torch.Tensor, start: int, end: int, is_loading: bool
) -> Iterator[ShardedTensor]:
    """The boxes of `tensor`, the elements `start` to `end` of a state that has the shape of a weight."""
    for begin, part in _parts(weight):
        assert part.data.is_contiguous() and part.data.dim() + part.prepend_axis_num == len(part.global_shape)
        stop = begin + part.data.numel()
        for box in boxes(part.local_shape, max(start, begin) - begin, min(end, stop) - begin):
            stacked = [1] * part.prepend_axis_num
            first = begin + box.start - start
            values = tensor[first : first + math.prod(box.lengths)].view(*stacked, *box.lengths)
            inner = zip((*[0] * len(stacked), *box.offset), part.global_offset, strict=True)
            yield ShardedTensor(
                key=f"{prefix}.{part.key}",
                data=None if is_loading else values,
                dtype=values.dtype,
                local_shape=tuple(values.shape),
                global_shape=part.global_shape,
                global_offset=tuple(offset + whole for offset, whole in inner),
                axis_fragmentations=None,  # ranges end anywhere: the boxes of all ranks are no regular grid
                replica_id=(*part.replica_id[:-1], 0),  # data-parallel ranks own other ranges, not copies
                allow_shape_mismatch=part.allow_shape_mismatch,
            )


def _parts(weight: Any) -> list[tuple[int, Any]]:
    """The sharded tensors that a weight is saved as, and the place of the first element of each in the weight."""
    if not isinstance(weight, ShardedTensorFactory):
        return [(0, weight)]
    # Asked of a tensor without memory: the parts of an FP8 weight would be copies, each from place 0.
    shape = torch.empty(weight.data.shape, dtype=weight.data.dtype, device="meta")
    parts: Any = replace(weight, data=shape).build()
    return sorted(((part.data.storage_offset(), part) for part in parts), key=lambda pair: pair[0])
