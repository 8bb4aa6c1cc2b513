"""Output head and cross entropy in one autograd node, a slab of the vocabulary at a time: logits never fill memory.

A head over 151 680 entries makes 5 GB of fp32 logits at 8 192 tokens, and MTP has a head more. Here the forward pass
keeps one number per token, the log of the sum of exponentials; the backward pass multiplies a slab of logits again and
turns it into its gradient at once. That costs a fourth product where a whole head has three. (The gradient cannot be
taken in the forward pass: the loss mask and the MTP weight come later and differ by token.)

Slabs are cut along the vocabulary rather than along the tokens: each slab of the weight's gradient is then one product,
final when it is written, and what has to be summed over slabs in fp32 is the small gradient of the hidden states.

Shapes: `r`ows (tokens), `h`idden, `v`ocabulary (local to the tensor-parallel rank).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SLAB_ALIGNMENT = 64
"""Slabs begin at multiples of this many entries, which matrix-product kernels like."""


def slab_bounds(vocab_size: int, chunk_vocab: int) -> list[tuple[int, int]]:
    """(start, stop) of slabs of nearly equal size that cover the vocabulary, none beyond `chunk_vocab` rounded up."""
    count = -(-vocab_size // chunk_vocab)
    size = -(-vocab_size // count // SLAB_ALIGNMENT) * SLAB_ALIGNMENT if count > 1 else vocab_size
    return [(start, min(start + size, vocab_size)) for start in range(0, vocab_size, size)]


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunk_vocab: int, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Cross entropy in nats of `hidden @ weight.T`: hidden [r, h], weight [v, h], labels [r] -> fp32 [r].

    labels count over the whole vocabulary. With a tensor-parallel `group` each rank holds the rows of `weight` that
    follow those of the rank before, and the caller sums the gradient of `hidden` over the ranks (as megatron-core's
    regions do). Logits are rounded to the inputs' format as a linear layer's are; everything after is fp32 (fp64 for
    fp64 inputs). `chunk_vocab`: vocabulary entries worked on at once.
    """
    losses: Any = ChunkedCrossEntropyFunction.apply(hidden, weight, labels, chunk_vocab, group)
    return losses


class ChunkedCrossEntropyFunction(Function):
    """See `chunked_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk_vocab: int, group: dist.ProcessGroup | None
    ) -> Tensor:
        first = 0 if group is None else group.rank() * len(weight)
        kind = accumulation_dtype(hidden)
        log_sum_exp = torch.full(labels.shape, float("-inf"), dtype=kind, device=hidden.device)
        chosen = torch.zeros_like(log_sum_exp)
        measure = _kernel(slab_statistics, hidden)
        for start, stop in slab_bounds(len(weight), chunk_vocab):
            logits = hidden @ weight[start:stop].t()
            sums, label_logits = measure(logits, labels - (first + start))
            torch.logaddexp(log_sum_exp, sums, out=log_sum_exp)
            chosen += label_logits
        if group is not None:
            log_sum_exp, chosen = _combine_ranks(log_sum_exp, chosen, group)
        ctx.save_for_backward(hidden, weight, labels, log_sum_exp)
        ctx.chunk_vocab, ctx.first = chunk_vocab, first
        return log_sum_exp - chosen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, labels, log_sum_exp = ctx.saved_tensors
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden, dtype=accumulation_dtype(hidden)) if wants_hidden else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        differentiate = _kernel(slab_gradient, hidden)
        for start, stop in slab_bounds(len(weight), ctx.chunk_vocab):
            logits = hidden @ weight[start:stop].t()
            gradient = differentiate(logits, labels - (ctx.first + start), log_sum_exp, grad)
            if grad_hidden is not None:
                grad_hidden += gradient @ weight[start:stop]
            if grad_weight is not None:
                torch.mm(gradient.t(), hidden, out=grad_weight[start:stop])
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, None, None, None


def slab_statistics(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """logits [r, slab], labels [r] counted from the slab's start -> log-sum-exp [r], label's logit or 0 [r]."""
    wide = logits.to(accumulation_dtype(logits))
    inside = (labels >= 0) & (labels < logits.shape[1])
    chosen = wide.gather(-1, torch.where(inside, labels, 0)[:, None]).squeeze(-1)
    return wide.logsumexp(dim=-1), torch.where(inside, chosen, 0)


def slab_gradient(logits: Tensor, labels: Tensor, log_sum_exp: Tensor, grad: Tensor) -> Tensor:
    """(softmax - one-hot label) * grad, in the logits' format: [r, slab], [r], [r], [r] -> [r, slab]."""
    softmax = logits.to(log_sum_exp.dtype).sub_(log_sum_exp[:, None]).exp_()
    inside = (labels >= 0) & (labels < logits.shape[1])
    softmax.scatter_add_(-1, torch.where(inside, labels, 0)[:, None], -inside[:, None].to(softmax.dtype))
    return softmax.mul_(grad[:, None]).to(logits.dtype)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """fp64 stays; everything else is summed in fp32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _combine_ranks(log_sum_exp: Tensor, chosen: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Statistics of the ranks' shares of the vocabulary -> those of the whole: two reductions of [r] and [2, r]."""
    largest = log_sum_exp.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    sums = torch.stack([(log_sum_exp - largest).exp_(), chosen])
    dist.all_reduce(sums, group=group)
    return sums[0].log_() + largest, sums[1]


_compiled: dict[Any, Any] = {}


def _kernel(function: Any, like: Tensor) -> Any:
    """`function` fused by torch.compile on CUDA, where its dozen passes over a slab cost as much as the products."""
    if not like.is_cuda:
        return function
    if function not in _compiled:
        _compiled[function] = torch.compile(function, dynamic=False)
    return _compiled[function]
