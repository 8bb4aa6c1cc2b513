"""Norm, rotation, activation and loss of the torch backend, each one autograd node with its backward pass written out.

Composed from torch's operators, each keeps copies of its input and walks over memory a dozen times; on CPUs that costs
as much as the matrix products. Internals are fp32 where the composed form has them in fp32.
`benchmarks/pretrain_step.py` shows the effect.

Shapes: `h`idden, `f` FFN size, `r`ows (tokens), `v`ocabulary; `s`equence, `b`atch, `n` heads, `g` key/value heads, `d`
head size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LOSS_CHUNK_ROWS = 64
"""Rows of logits that each thread works on at once: their fp32 copies stay in a core's cache."""
ACTIVATION_CHUNK_ROWS = 128
"""Rows of gates and their products that each thread works on at once, for the same reason."""


class RMSNormFunction(Function):
    """Root-mean-square norm over the last axis: x [..., h], weight [h], eps -> [..., h]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.flatten(0, -2).float()
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        inverse_rms = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse_rms)
        return torch.mul(rows, inverse_rms).mul_(weight.float()).to(x.dtype).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse_rms = ctx.saved_tensors
        rows, grad_rows, scale = x.flatten(0, -2).float(), grad.flatten(0, -2).float(), weight.float()
        product = grad_rows * rows
        grad_weight = torch.mv(product.t(), inverse_rms.squeeze(-1))
        projection = torch.mv(product, scale).unsqueeze(-1).mul_(inverse_rms.pow(3)).div_(-x.shape[-1])
        grad_x = torch.mul(grad_rows, scale).mul_(inverse_rms).addcmul_(rows, projection)
        return grad_x.to(x.dtype).view_as(x), grad_weight.to(weight.dtype), None


class RotaryQKVFunction(Function):
    """Joint projection -> rotated queries and keys, and values, each laid out as attention reads it.

    mixed [s, b, g, (n/g + 2) * d], a group's queries before its key and its value; cosines and sines [s, d], the two
    halves of d alike -> query [b, n, s, d], key and value [b, g, s, d].
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (s, b, g, _), d = mixed.shape, cosines.shape[-1]
        ctx.save_for_backward(cosines, sines)
        heads = mixed.view(s, b, g, -1, d).permute(1, 2, 3, 0, 4)
        m = heads.shape[2] - 2
        query, key, value = (mixed.new_empty(b, g, count, s, d) for count in (m, 1, 1))
        rotate(heads[:, :, :m], cosines, sines, out=query)
        rotate(heads[:, :, m : m + 1], cosines, sines, out=key)
        value.copy_(heads[:, :, m + 1 :])
        return query.view(b, g * m, s, d), key.squeeze(2), value.squeeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (cosines, sines), (b, g, s, d) = ctx.saved_tensors, grads[1].shape
        grad_query, grad_key, grad_value = (grad.reshape(b, g, -1, s, d) for grad in grads)
        m = grad_query.shape[2]
        grad_mixed = grads[0].new_empty(s, b, g, (m + 2) * d)
        heads = grad_mixed.view(s, b, g, m + 2, d).permute(1, 2, 3, 0, 4)
        rotate(grad_query, cosines, -sines, out=heads[:, :, :m])
        rotate(grad_key, cosines, -sines, out=heads[:, :, m : m + 1])
        heads[:, :, m + 1 :].copy_(grad_value)
        return grad_mixed, None, None


def rotate(x: Tensor, cosines: Tensor, sines: Tensor, out: Tensor) -> None:
    """x [..., s, d] turned by the angles whose cosines and sines are [s, d], into `out`; -sines turns back."""
    half = x.shape[-1] // 2
    torch.mul(x, cosines, out=out)
    out[..., :half].addcmul_(x[..., half:], sines[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sines[..., half:])


class SwiGLUFunction(Function):
    """silu(gate) * up of gate and up side by side: [..., 2f] -> [..., f]; some rows at a time, which stay in cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], x.shape[-1] // 2)
        activated, product = x.new_empty(shape), x.new_empty(shape)
        for rows, act, out in _row_chunks(x, activated, product):
            gate, up = rows.chunk(2, dim=-1)
            torch.ops.aten.silu.out(gate, out=act)
            torch.mul(act, up, out=out)
        ctx.save_for_backward(x, activated)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, activated = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        for rows, act, grad_rows, grad_out in _row_chunks(x, activated, grad, grad_x):
            gate, up = rows.chunk(2, dim=-1)
            grad_gate, grad_up = grad_out.chunk(2, dim=-1)
            torch.mul(grad_rows, up, out=grad_gate)
            torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
            torch.mul(grad_rows, act, out=grad_up)
        return grad_x


def _row_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each of the tensors [..., any size], `ACTIVATION_CHUNK_ROWS` per thread at a time."""
    count = ACTIVATION_CHUNK_ROWS * torch.get_num_threads()
    return zip(*(tensor.flatten(0, -2).split(count) for tensor in tensors), strict=True)


class CrossEntropyFunction(Function):
    """Cross entropy in nats: logits [r, v], labels [r] -> fp32 [r]. The gradient takes the place of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        losses = torch.empty(labels.shape, dtype=torch.float32)
        sums = torch.empty(len(labels), 1, dtype=torch.float32)
        count = LOSS_CHUNK_ROWS * torch.get_num_threads()
        for start in range(0, len(labels), count):
            rows = slice(start, start + count)
            chosen, chunk = labels[rows, None], logits[rows].float()
            highest = chunk.amax(dim=-1, keepdim=True)
            below_highest = highest - chunk.gather(-1, chosen)
            exponentials = chunk.sub_(highest).exp_()
            sums[rows] = exponentials.sum(dim=-1, keepdim=True)
            losses[rows] = below_highest.add_(sums[rows].log()).squeeze(-1)
            # The gradient but for its division by the sums, which costs nothing in the backward pass.
            exponentials.scatter_add_(-1, chosen, -sums[rows])
            if exponentials.dtype != logits.dtype:
                logits[rows] = exponentials
        ctx.save_for_backward(logits, sums)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        gradient, sums = ctx.saved_tensors
        return gradient.mul_((grad.unsqueeze(-1) / sums).to(gradient.dtype)), None
