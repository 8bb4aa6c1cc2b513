"""What each rank of a parallel layout holds, from the same operations as the conversion.

A rank of tensor and pipeline parallelism holds shards (`Op.split`) of the tensors of its model chunks, under names that
count layers from the chunk's first. `rank_weights` cuts, `MergedRanks` puts together again: a model can go to ranks and
come back without a checkpoint between them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import ModelConfig, ParallelConfig
from megatron_mimo.convert.ops import Op
from megatron_mimo.convert.shards import Read

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
EMBEDDING = "embedding."


@dataclass(frozen=True)
class Place:
    """A model chunk, and the name there."""

    pipeline_rank: int
    virtual_stage: int
    name: str


def places(name: str, model: ModelConfig, parallel: ParallelConfig) -> list[Place]:
    """Where the Megatron tensor `name` lives: one chunk; two for embeddings that the MTP layers of the last share."""
    ranks, stages = parallel.pipeline_model_parallel_size, parallel.virtual_pipeline_model_parallel_size or 1
    chunks = ranks * stages
    layer = _LAYER.fullmatch(name)
    if layer is not None:
        per_chunk = model.num_layers // chunks
        chunk, local = divmod(int(layer[1]), per_chunk)
        # Chunks go round the ranks: the interleaved schedule.
        return [Place(chunk % ranks, chunk // ranks, f"decoder.layers.{local}.{layer[2]}")]
    first, last = Place(0, 0, name), Place(ranks - 1, stages - 1, name)
    if not name.startswith(EMBEDDING):
        return [last]
    return [first, last] if model.mtp_num_layers and chunks > 1 else [first]


def rank_weights(
    ops: Iterable[Op],
    read: Read,
    model: ModelConfig,
    parallel: ParallelConfig,
    *,
    tensor_rank: int,
    pipeline_rank: int,
    virtual_stage: int = 0,
) -> Iterator[tuple[str, Tensor]]:
    """Name and shard of every tensor of one model chunk; `read` gives whole tensors by Megatron name."""
    for op in ops:
        for name in op.megatron:
            for place in places(name, model, parallel):
                if (place.pipeline_rank, place.virtual_stage) == (pipeline_rank, virtual_stage):
                    yield place.name, op.split(read(name), parallel.tensor_model_parallel_size)[tensor_rank]


class MergedRanks:
    """Whole tensors by Megatron name, put together from the ranks' shards when they are read."""

    identity: dict[str, Any] | None = None

    def __init__(
        self,
        ops: Iterable[Op],
        model: ModelConfig,
        parallel: ParallelConfig,
        read_shard: Callable[[int, Place], Tensor],
    ) -> None:
        """`read_shard(tensor_rank, place)` gives one rank's shard."""
        self._ops = {name: op for op in ops for name in op.megatron}
        self._model, self._parallel, self._read_shard = model, parallel, read_shard

    def read(self, name: str) -> Tensor:
        place = places(name, self._model, self._parallel)[0]
        ranks = range(self._parallel.tensor_model_parallel_size)
        return self._ops[name].merge([self._read_shard(rank, place) for rank in ranks])

    def read_meta(self, name: str) -> Tensor:
        whole = self.read(name)
        return torch.empty_like(whole, device="meta")
