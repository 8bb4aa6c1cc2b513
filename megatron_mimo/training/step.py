"""Forward and backward of one global batch over micro-batches, and its losses on every rank.

Shapes: `s`equence, `b`atch (micro-batch), `D` MTP layers, `n` data sources.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import finalize_model_grads
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from megatron_mimo.training.batch import Batch
from megatron_mimo.training.loss import loss_statistics, weighted_loss_sum
from megatron_mimo.training.optimizer import gather_parameters, synchronize_once_per_step


@dataclass(frozen=True)
class LossReport:
    """Losses of one global batch, the same numbers on every rank: [1+D, n] fp64 sums in nats and token counts."""

    sums: Tensor
    counts: Tensor

    @property
    def by_depth(self) -> list[float]:
        """Mean loss in nats per token: main first, then each MTP layer."""
        return (self.sums.sum(dim=1) / self.counts.sum(dim=1).clamp(min=1)).tolist()

    def by_source(self, names: list[str], depth: int = 0) -> dict[str, float]:
        """Mean loss of each source that occurs in the batch."""
        pairs = zip(names, self.sums[depth].tolist(), self.counts[depth].tolist(), strict=True)
        return {name: total / count for name, total, count in pairs if count}

    def tokens_by_source(self, names: list[str]) -> dict[str, int]:
        return {name: int(count) for name, count in zip(names, self.counts[0].tolist(), strict=True)}


class TrainStep:
    """Runs a global batch through the pipeline schedule that megatron-core picks for the layout.

    `chunks` are the data-parallel wrappers of this rank's model chunks.
    """

    def __init__(self, chunks: list[Any], num_depths: int, num_sources: int) -> None:
        self.chunks = chunks
        self.num_depths = num_depths
        self.num_sources = num_sources
        self.mtp_loss_scaling_factor = 0.0
        self.mtp_depth_weights: list[float] | None = None
        """Of the MTP losses by depth, summing to 1; None weighs them alike."""
        self._forward_backward = get_forward_backward_func()
        for chunk in chunks:
            chunk.module.config.finalize_model_grads_func = finalize_model_grads
        synchronize_once_per_step(chunks)

    def backward(self, micro_batches: Iterator[Batch], num_microbatches: int, shape: tuple[int, int]) -> LossReport:
        """Accumulate gradients of `num_microbatches` micro-batches, reduced and divided by tokens.

        `shape`: (b, s) of a micro-batch as the model sees it, see `batch.model_shape`.
        """
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
            chunk.train()
        return self._run(micro_batches, num_microbatches, shape, forward_only=False)

    def evaluate(self, micro_batches: Iterator[Batch], num_microbatches: int, shape: tuple[int, int]) -> LossReport:
        """Losses without gradients."""
        gather_parameters(self.chunks)
        for chunk in self.chunks:
            chunk.eval()
        with torch.no_grad():
            return self._run(micro_batches, num_microbatches, shape, forward_only=True)

    def _run(
        self, micro_batches: Iterator[Batch], num_microbatches: int, shape: tuple[int, int], forward_only: bool
    ) -> LossReport:
        cached = [micro_batches] if len(self.chunks) == 1 else _replay(micro_batches, num_microbatches, self.chunks)
        reports = self._forward_backward(
            forward_step_func=self._forward_step,
            data_iterator=cached if len(self.chunks) > 1 else cached[0],
            model=self.chunks,
            num_microbatches=num_microbatches,
            micro_batch_size=shape[0],
            seq_length=shape[1],
            forward_only=forward_only,
        )
        return self._reduce(reports)

    def _forward_step(self, micro_batches: Iterator[Batch], model: Any) -> tuple[Tensor, partial]:
        batch = next(micro_batches)
        output = model(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels, batch.documents)
        return output, partial(self._loss, batch)

    def _loss(self, batch: Batch, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Per-token losses -> (sum to differentiate, token count to divide by, statistics to report)."""
        losses = losses.view_as(batch.loss_mask)  # rows that were packed into one come apart again
        total = weighted_loss_sum(losses, batch.loss_mask, self.mtp_loss_scaling_factor, self.mtp_depth_weights)
        statistics = loss_statistics(losses, batch.loss_mask, batch.source, self.num_sources)
        return total, batch.loss_mask[0].sum().int(), statistics

    def _reduce(self, reports: list[Tensor]) -> LossReport:
        """Add up micro-batches and data-parallel ranks, then tell every pipeline stage."""
        device = torch.cuda.current_device()
        total = torch.zeros(2, self.num_depths, self.num_sources, dtype=torch.float64, device=device)
        if reports:
            total += torch.stack(reports).sum(dim=0)
            dist.all_reduce(total, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        if parallel_state.get_pipeline_model_parallel_world_size() > 1:
            last: Any = parallel_state.get_pipeline_model_parallel_last_rank()
            group: Any = parallel_state.get_pipeline_model_parallel_group()
            dist.broadcast(total, src=last, group=group)
        sums, counts = total.cpu()
        return LossReport(sums, counts)


def _replay(micro_batches: Iterator[Batch], count: int, chunks: list[Any]) -> list[Iterator[Batch]]:
    """Interleaved schedules read the same micro-batches once per model chunk."""
    batches = [next(micro_batches) for _ in range(count)]
    return [iter(batches) for _ in chunks]
