"""Attention as matrix products: faster than torch's fused kernel on CPUs with bf16 instructions, while rows are short.

Scores are bf16, the softmax is computed in fp32, as in megatron-core's unfused attention. Causal attention goes by
blocks of queries, each over the keys up to its end. `benchmarks/pretrain_step.py` shows the effect.

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
MIN_BLOCK_ROWS, MAX_BLOCKS = 128, 8


class ProductAttention(Function):
    """query [b,n,s,d], key and value [b,g,S,d], visible bool [b or 1,1,s,S] or None for causal -> [s,b,n,d]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        b, n, s, d = q.shape
        k, v = k.contiguous(), v.contiguous()
        scaled_query = torch.mul(q, scale, out=torch.empty((b, n, s, d), dtype=q.dtype))
        context = q.new_empty(s, b, n, d)
        all_weights = []
        for rows, end in blocks(s, k.shape[2], causal=visible is None):
            scores = grouped(scaled_query[:, :, rows], k.shape[1]) @ transposed(k[:, :, :end])
            scores = scores.view(b, n, -1, end)
            _hide(scores, rows, visible)
            weights = grouped(scores.softmax(dim=-1), k.shape[1])
            context[rows] = ungrouped(weights @ v[:, :, :end], n)
            all_weights.append(weights)
        ctx.scale, ctx.causal = scale, visible is None
        ctx.save_for_backward(scaled_query, k, v, *all_weights)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        scaled_query, k, v, *all_weights = ctx.saved_tensors
        b, n, s, d = scaled_query.shape
        grad_query = grad.new_empty(s, b, n, d)
        grad_key, grad_value = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (k, v))
        for (rows, end), weights in zip(blocks(s, k.shape[2], ctx.causal), all_weights, strict=True):
            grad_rows = grouped(grad[rows].permute(1, 2, 0, 3), k.shape[1])
            grad_value[:, :, :end] += weights.transpose(-1, -2) @ grad_rows
            grad_weights = grad_rows @ transposed(v[:, :, :end])
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_query[rows] = ungrouped(grad_scores @ k[:, :, :end], n)
            grad_key[:, :, :end] += grad_scores.transpose(-1, -2) @ grouped(scaled_query[:, :, rows], k.shape[1])
        grad_query = grad_query.mul_(ctx.scale).permute(1, 2, 0, 3)
        return grad_query, grad_key.to(k.dtype), grad_value.to(v.dtype), None, None


def blocks(num_queries: int, num_keys: int, causal: bool) -> Iterator[tuple[slice, int]]:
    """Rows of queries and the number of keys that they may look at."""
    if not causal:
        yield slice(0, num_queries), num_keys
        return
    size = max(MIN_BLOCK_ROWS, -(-num_queries // MAX_BLOCKS))
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
        future = torch.ones(scores.shape[2], scores.shape[2], dtype=torch.bool).triu_(1)
        scores = scores[..., rows.start :]
    else:
        future = ~visible
    scores += torch.zeros(future.shape, dtype=scores.dtype).masked_fill_(future, float("-inf"))
