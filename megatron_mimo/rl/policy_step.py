"""Forward and backward of one mini-batch over its rows, through megatron-core's pipeline schedule.

The gradient is Eq. 1's for any layout: every row's loss is already divided by the token count of the whole mini-batch,
gradients of rows and data-parallel ranks are added, and nothing is divided again. Rows with labels for the MTP layers
add these layers' cross entropy, which reaches no other parameter.

Shapes: `s`equence, `D` MTP layers that are trained; a micro-batch is one row of packed samples.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import finalize_model_grads
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from megatron_mimo.config.rl import PolicyLossConfig
from megatron_mimo.rl.logprobs import PolicyHead
from megatron_mimo.rl.policy_loss import policy_loss
from megatron_mimo.rl.train_batch import Row
from megatron_mimo.rl.update_metrics import PolicyReport
from megatron_mimo.training.batch import moved_to_device


def reduce_gradients(chunks: list[Any], num_tokens: Tensor | None, *arguments: Any, **named: Any) -> None:
    """Add up the gradients of all ranks; unlike in pre-training the losses are already divided by the token count."""
    finalize_model_grads(chunks, None, *arguments, **named)


class PolicyStep:
    """`chunks`: the data-parallel wrapper of this rank's part of the model, in a list as megatron-core wants it."""

    def __init__(self, chunks: list[Any], options: PolicyLossConfig) -> None:
        (self._chunk,) = self._chunks = chunks
        self._options = options
        self._forward_backward = get_forward_backward_func()
        self._chunk.module.config.finalize_model_grads_func = reduce_gradients

    @torch.no_grad()
    def score(self, rows: list[Row]) -> tuple[list[Row], float]:
        """Rows with the present policy's log-probabilities as `old_logprobs`, and the entropy summed over tokens.

        The rows come back as they are where this is not the last pipeline stage; the entropy is the same on every rank.
        """
        scored = [replace(row, labels=row.labels[:1]) for row in rows]  # without the MTP layers
        outputs = self._run(scored, partial(self._forward, self._scores, True), forward_only=True)
        if outputs:
            rows = [replace(row, old_logprobs=output[0]) for row, output in zip(rows, outputs, strict=True)]
        entropies = [(output[1] * row.loss_mask).sum() for row, output in zip(rows, outputs, strict=False)]
        return rows, _combine([{"entropy": entropy} for entropy in entropies], [{}] * len(entropies)).sums["entropy"]

    def backward(self, rows: list[Row], global_tokens: int) -> PolicyReport:
        """Gradients of Eq. 1 over the rows of all data-parallel ranks, `global_tokens` tokens together.

        Rows without `old_logprobs` are their own old policy: the ratio is 1, the gradient that of the probabilities.
        Their entropy is reported, which otherwise came with `score`.
        """
        self._chunk.zero_grad_buffer()
        with_entropy = any(row.old_logprobs is None for row in rows)
        loss = partial(self._loss, global_tokens)
        outputs = self._run(rows, partial(self._forward, loss, with_entropy), forward_only=False)
        return _combine([sums for sums, _ in outputs], [maxima for _, maxima in outputs])

    def _run(self, rows: list[Row], forward_step: Any, forward_only: bool) -> list[Any]:
        """What the loss function reported of each row; empty but on the last pipeline stage."""
        self._chunk.train()
        return self._forward_backward(
            forward_step_func=forward_step,
            data_iterator=(row.to(moved_to_device) for row in rows),
            model=self._chunks,
            num_microbatches=len(rows),
            micro_batch_size=1,
            seq_length=rows[0].tokens.shape[1],
            forward_only=forward_only,
        )

    def _forward(self, loss: Any, with_entropy: bool, rows: Iterator[Row], model: Any) -> tuple[Tensor, partial]:
        row, head = next(rows), PolicyHead(model.module, with_entropy)
        output = model(row.tokens, row.position_ids, None, row.labels, row.documents, main_head=head)
        return output, partial(loss, row)

    def _scores(self, row: Row, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of [2, 1, s] log-probabilities and entropies; megatron-core wants a loss and a token count first."""
        return output.new_zeros(()), _no_count(output), output

    def _loss(self, global_tokens: int, row: Row, output: Tensor) -> tuple[Tensor, Tensor, Any]:
        logprobs, entropy = output[:2]
        old_logprobs = logprobs.detach() if row.old_logprobs is None else row.old_logprobs
        result = policy_loss(
            logprobs,
            old_logprobs,
            row.advantages,
            row.loss_mask,
            global_tokens=global_tokens,
            options=self._options,
            rollout_logprobs=row.rollout_logprobs,
            reference_logprobs=row.reference_logprobs,
        )
        extra = {"loss": result.loss.detach(), "entropy": (entropy * row.loss_mask).sum()}
        if not len(row.mtp_loss_mask):
            return result.loss, _no_count(output), (result.sums | extra, result.maxima)
        mtp_loss = mtp_loss_sum(output[2:], row.mtp_loss_mask)
        extra["mtp_loss"] = mtp_loss.detach()
        return result.loss + mtp_loss / global_tokens, _no_count(output), (result.sums | extra, result.maxima)


def mtp_loss_sum(losses: Tensor, loss_mask: Tensor) -> Tensor:
    """Mean over the D layers of the sum over tokens, in nats; losses at masked places, NaN included, do not count.

    losses, loss_mask: [D, 1, s].
    """
    return torch.where(loss_mask.bool(), losses, 0.0).sum() / len(losses)


def _no_count(output: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int, device=output.device)


def _combine(sums: list[dict[str, Tensor]], maxima: list[dict[str, Tensor]]) -> PolicyReport:
    """Over rows and data-parallel ranks, then told to every pipeline stage."""
    group = parallel_state.get_data_parallel_group()
    report: list[Any] = [None]
    if sums:
        totals = _reduced(sums, dist.ReduceOp.SUM, group)
        report = [PolicyReport(totals, _reduced(maxima, dist.ReduceOp.MAX, group))]
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        pipeline: Any = parallel_state.get_pipeline_model_parallel_group()
        last: Any = parallel_state.get_pipeline_model_parallel_last_rank()
        dist.broadcast_object_list(report, src=last, group=pipeline)
    (combined,) = report
    assert combined is not None
    return combined


def _reduced(parts: list[dict[str, Tensor]], operation: Any, group: Any) -> dict[str, float]:
    """Of each name, in one message and one wait for the device."""
    names = list(parts[0])
    if not names:
        return {}
    stacked = torch.stack([torch.stack([part[name].double() for name in names]) for part in parts])
    total = stacked.sum(dim=0) if operation == dist.ReduceOp.SUM else stacked.amax(dim=0)
    dist.all_reduce(total, operation, group)
    return dict(zip(names, total.tolist(), strict=True))
