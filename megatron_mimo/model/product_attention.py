"""Attention as matrix products: faster than torch's fused kernel on CPUs while rows are short.

Attention goes by blocks of queries, each over the keys up to its end. In bf16 scores are bf16 and the softmax is
computed in fp32, as in megatron-core's unfused attention. In fp32 the exponentials of the scores are kept, and their
sums divide the much smaller context and its gradient. `benchmarks/pretrain_step.py` shows the effect.

Shapes: `s`equence of queries, `S` of keys, `b`atch, `n` heads, `g` key/value heads, `d` head size, `r` queries that
share a key/value head: heads of its group times rows of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

MAX_PRODUCT_LENGTH = 2048
"""Keys up to which the products are used; the memory that the weights take grows with its square."""
BLOCKS = {2: (128, 8), 4: (64, 16)}
"""Bytes of an element -> least rows of a block, most blocks: bf16 products want larger ones."""


def product_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """query [b,n,s,d], key and value [b,g,S,d], visible bool [b or 1,1,s,S] or None for causal -> [s,b,n,d].

    Where s = S, `visible` hides the future at least, as it does between documents that share a row.
    """
    function = ExponentialAttention if q.dtype == torch.float32 else ProductAttention
    context: Any = function.apply(q, k, v, visible, scale)
    return context


class ProductAttention(Function):
    """`product_attention` with weights rounded to the inputs' format."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        b, n, s, d = q.shape
        k, v = k.contiguous(), v.contiguous()
        scaled_query = torch.mul(q, scale, out=torch.empty((b, n, s, d), dtype=q.dtype))
        context = q.new_empty(s, b, n, d)
        all_weights = []
        for rows, end in blocks(s, k.shape[2], q.element_size()):
            scores = grouped(scaled_query[:, :, rows], k.shape[1]) @ transposed(k[:, :, :end])
            scores = scores.view(b, n, -1, end)
            _hide(scores, rows, visible)
            weights = grouped(scores.softmax(dim=-1), k.shape[1])
            context[rows] = ungrouped(weights @ v[:, :, :end], n)
            all_weights.append(weights)
        ctx.scale = scale
        ctx.save_for_backward(scaled_query, k, v, *all_weights)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        scaled_query, k, v, *all_weights = ctx.saved_tensors
        b, n, s, d = scaled_query.shape
        grad_query = grad.new_empty(s, b, n, d)
        grad_key, grad_value = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (k, v))
        for (rows, end), weights in zip(blocks(s, k.shape[2], k.element_size()), all_weights, strict=True):
            grad_rows = grouped(grad[rows].permute(1, 2, 0, 3), k.shape[1])
            grad_value[:, :, :end] += weights.transpose(-1, -2) @ grad_rows
            grad_weights = grad_rows @ transposed(v[:, :, :end])
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_query[rows] = ungrouped(grad_scores @ k[:, :, :end], n)
            grad_key[:, :, :end] += grad_scores.transpose(-1, -2) @ grouped(scaled_query[:, :, rows], k.shape[1])
        grad_query = grad_query.mul_(ctx.scale).permute(1, 2, 0, 3)
        return grad_query, grad_key.to(k.dtype), grad_value.to(v.dtype), None, None


class ExponentialAttention(Function):
    """`product_attention` in fp32: with e the exponentials and z their sums, context = (e @ v) / z."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        b, n, s, d = q.shape
        k, v = k.flatten(0, 1), v.flatten(0, 1)
        scaled_query = torch.mul(q, scale, out=torch.empty((b, n, s, d), dtype=q.dtype))
        context = q.new_empty(s, b, n, d)
        kept = []
        for rows, end in blocks(s, k.shape[1], q.element_size()):
            query_rows = grouped(scaled_query[:, :, rows], len(k) // b).flatten(0, 1)
            scores = torch.bmm(query_rows, k[:, :end].mT).view(b, n, -1, end)
            _hide(scores, rows, visible)
            scores.sub_(scores.amax(dim=-1, keepdim=True)).exp_()
            inverse_sums = scores.sum(dim=-1, keepdim=True).reciprocal_()
            exponentials = scores.view(len(k), -1, end)
            sums = torch.bmm(exponentials, v[:, :end]).view(b, n, -1, d)
            torch.mul(sums, inverse_sums, out=context[rows].permute(1, 2, 0, 3))
            kept += [exponentials, inverse_sums]
        ctx.scale = scale
        ctx.save_for_backward(scaled_query, k, v, context, *kept)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        scaled_query, k, v, context, *kept = ctx.saved_tensors
        b, n, s, d = scaled_query.shape
        grad_query, grad_key, grad_value = torch.empty_like(grad), torch.zeros_like(k), torch.zeros_like(v)
        blocks_kept = zip(kept[::2], kept[1::2], strict=True)
        for (rows, end), (exponentials, inverse_sums) in zip(
            blocks(s, k.shape[1], k.element_size()), blocks_kept, strict=True
        ):
            grad_rows = grad[rows].permute(1, 2, 0, 3) * inverse_sums
            mean = (grad_rows * context[rows].permute(1, 2, 0, 3)).sum(dim=-1, keepdim=True)
            grad_rows = grad_rows.reshape(len(k), -1, d)
            grad_value[:, :end] += torch.bmm(exponentials.mT, grad_rows)
            grad_scores = torch.bmm(grad_rows, v[:, :end].mT)
            grad_scores = grad_scores.sub_(mean.reshape(len(k), -1, 1)).mul_(exponentials)
            query_rows = torch.bmm(grad_scores, k[:, :end]).view(b, n, -1, d)
            torch.mul(query_rows, ctx.scale, out=grad_query[rows].permute(1, 2, 0, 3))
            query_rows = grouped(scaled_query[:, :, rows], len(k) // b).flatten(0, 1)
            grad_key[:, :end] += torch.bmm(grad_scores.mT, query_rows)
        grad_query = grad_query.permute(1, 2, 0, 3)
        return grad_query, grad_key.view(b, -1, *k.shape[1:]), grad_value.view(b, -1, *v.shape[1:]), None, None


def blocks(num_queries: int, num_keys: int, element_bytes: int) -> Iterator[tuple[slice, int]]:
    """Rows of queries and the number of keys that they may look at: all, where queries are a part of the sequence."""
    if num_queries != num_keys:
        yield slice(0, num_queries), num_keys
        return
    least_rows, most_blocks = BLOCKS[element_bytes]
    size = max(least_rows, -(-num_queries // most_blocks))
    for start in range(0, num_queries, size):
        end = min(start + size, num_queries)
        yield slice(start, end), end


def grouped(rows: Tensor, g: int) -> Tensor:
    """[b,n,s,d] -> [b,g,r,d], contiguous."""
    return rows.reshape(rows.shape[0], g, -1, rows.shape[-1])


def ungrouped(rows: Tensor, n: int) -> Tensor:
    """[b,g,r,d] -> [s,b,n,d], a view."""
    return rows.view(rows.shape[0], n, -1, rows.shape[-1]).permute(2, 0, 1, 3)


def transposed(rows: Tensor) -> Tensor:
    """[b,g,S,d] -> [b,g,d,S]; a product takes the transpose of contiguous rows as it is, and copies any other."""
    return rows.contiguous().transpose(-1, -2)


def _hide(scores: Tensor, rows: slice, visible: Tensor | None) -> None:
    """Set the scores [b,n,s,S] of keys that a row may not look at to -inf."""
    if visible is None:
        hidden = torch.ones(scores.shape[2], scores.shape[2], dtype=torch.bool).triu_(1)
        scores = scores[..., rows.start :]
    else:
        hidden = ~visible[..., rows, : scores.shape[3]]
    scores += torch.zeros(hidden.shape, dtype=scores.dtype).masked_fill_(hidden, float("-inf"))
