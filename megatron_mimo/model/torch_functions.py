"""Norm, activation and loss of the torch backend, each one autograd node with its backward pass written out.

Composed from torch's operators, each keeps copies of its input and walks over memory a dozen times; on CPUs that costs
as much as the matrix products. Internals are fp32 where the composed form has them in fp32.
`benchmarks/pretrain_step.py` shows the effect.

Shapes: `h`idden, `f` FFN size, `r`ows (tokens), `v`ocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LOSS_CHUNK_ROWS = 64
"""Rows of logits worked on at once: their fp32 copies stay in a core's cache."""


class RMSNormFunction(Function):
    """Root-mean-square norm over the last axis: x [..., h], weight [h], eps -> [..., h]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        h, scale = x.shape[-1], weight.float()
        rows = x.flatten(0, -2).to(torch.float32, copy=True)
        inverse_rms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_().div_(h).add_(ctx.eps).rsqrt_()
        normed = rows.mul_(inverse_rms)
        grad_rows = grad.flatten(0, -2).to(torch.float32, copy=True)
        product = grad_rows * normed
        grad_weight = product.sum(dim=0)
        projection = torch.mv(product, scale).div_(-h).unsqueeze(-1)
        grad_x = grad_rows.mul_(scale).addcmul_(normed, projection).mul_(inverse_rms)
        return grad_x.to(x.dtype).view_as(x), grad_weight.to(weight.dtype), None


class SwiGLUFunction(Function):
    """silu(gate) * up of gate and up side by side: [..., 2f] -> [..., f]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        activated = F.silu(gate)
        ctx.save_for_backward(x, activated)
        return activated * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, activated = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        grad_x = torch.empty_like(x)
        grad_gate, grad_up = grad_x.chunk(2, dim=-1)
        torch.mul(grad, up, out=grad_gate)
        torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        torch.mul(grad, activated, out=grad_up)
        return grad_x


class CrossEntropyFunction(Function):
    """Cross entropy in nats: logits [r, v], labels [r] -> fp32 [r]. The gradient takes the place of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        losses = torch.empty(labels.shape, dtype=torch.float32)
        for start in range(0, len(labels), LOSS_CHUNK_ROWS):
            rows = slice(start, start + LOSS_CHUNK_ROWS)
            chosen, chunk = labels[rows, None], logits[rows].float()
            gradient = torch.softmax(chunk, dim=-1)
            log_sum_exp = chunk.amax(dim=-1) - gradient.amax(dim=-1).log_()
            losses[rows] = log_sum_exp - chunk.gather(-1, chosen).squeeze(-1)
            logits[rows] = gradient.scatter_add_(-1, chosen, torch.full_like(chosen, -1, dtype=torch.float32))
        ctx.save_for_backward(logits)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad.to(gradient.dtype).unsqueeze(-1)), None
