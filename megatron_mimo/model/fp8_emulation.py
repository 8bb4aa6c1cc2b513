"""FP8 recipes without FP8 hardware: operands are quantised by Transformer Engine's scaling rules and turned back.

Each of a linear layer's three matrix products (forward, gradient of the input, gradient of the weight) sees operands
that went through E4M3 or E5M2 (arXiv:2209.05433) and back; products run in fp32 and are rounded to the activations'
format, as tensor cores sum in fp32. Recipes, with the parameters that megatron-core passes on:

    delayed     one scale a tensor, from the largest magnitude (amax) of the step before; values beyond it saturate
    tensorwise  one scale a tensor, from its own amax
    blockwise   1x128 blocks along the summed axis for activations and gradients, 128x128 blocks for weights; scales are
                powers of two (DeepSeek-V3, arXiv:2412.19437, section 3.3)
    mxfp8       1x32 blocks along the summed axis for every operand; scales are powers of two (OCP MX specification)

Not emulated: the fewer bits in which Hopper sums inside a product.

Shapes: `r`ows (tokens), `i`nput size, `o`utput size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from megatron_mimo.config.precision import FP8Recipe

Format = Literal["e4m3", "e5m2"]
DTYPES: dict[Format, torch.dtype] = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
BLOCK, MX_BLOCK = 128, 32


def format_max(kind: Format) -> float:
    """The largest finite value: 448 or 57 344."""
    return torch.finfo(DTYPES[kind]).max


def round_to_format(values: Tensor, kind: Format) -> Tensor:
    """fp32 values rounded to the nearest one that the format holds; beyond its range they saturate."""
    limit = format_max(kind)
    return values.clamp(-limit, limit).to(DTYPES[kind]).to(values.dtype)


def tensor_scale(amax: Tensor, kind: Format, margin: int = 0) -> Tensor:
    """Multiplier that takes `amax` to the format's largest value, divided by 2**margin; 1 where amax is 0 or inf."""
    scale = (format_max(kind) / amax) / 2**margin
    return torch.where((amax > 0) & amax.isfinite(), scale, 1.0).clamp(max=torch.finfo(torch.float32).max)


def power_of_two_scale(amax: Tensor, kind: Format) -> Tensor:
    """The same, rounded down to a power of two, so that scaling itself rounds nothing."""
    mantissa, exponent = torch.frexp(tensor_scale(amax, kind))
    return torch.ldexp(torch.ones_like(mantissa), exponent - 1)


def quantise(values: Tensor, kind: Format, scale: Tensor) -> Tensor:
    """Quantise and dequantise: fp32 in and out; `scale` broadcasts over `values`."""
    return round_to_format(values * scale, kind) / scale


def quantise_blocks(values: Tensor, kind: Format, block: tuple[int, int]) -> Tensor:
    """Quantise and dequantise fp32 [m, n] in blocks of `block` with a power-of-two scale each; edges may be ragged."""
    (m, n), (height, width) = values.shape, block
    padded = F.pad(values, (0, -n % width, 0, -m % height))
    tiles = padded.view(padded.shape[0] // height, height, padded.shape[1] // width, width)
    scale = power_of_two_scale(tiles.abs().amax(dim=(1, 3), keepdim=True), kind)
    return quantise(tiles, kind, scale).view_as(padded)[:m, :n]


class AmaxHistory:
    """Delayed scaling of one tensor: the scale in use comes from the amax of earlier steps.

    `length` 1 keeps the most recent one; more take the largest of that many. A `group` shares the largest over ranks.
    """

    def __init__(self, kind: Format, length: int = 1, margin: int = 0, group: dist.ProcessGroup | None = None) -> None:
        self.kind: Format = kind
        self.margin = margin
        self.group = group
        self.history = torch.zeros(length)
        self.scale = torch.ones(())

    def quantise(self, values: Tensor, moves_on: bool = True) -> Tensor:
        """Quantise with the scale in use, then move it on to this tensor's amax."""
        quantised = quantise(values, self.kind, self.scale.to(values.device))
        if not moves_on:
            return quantised
        amax = values.abs().amax()
        if self.group is not None:
            dist.all_reduce(amax, dist.ReduceOp.MAX, group=self.group)
        self.history = torch.cat([self.history[1:], amax.cpu().view(1)])
        largest = self.history.max()
        # A tensor of zeros, or one that overflowed, says nothing of the next.
        if largest > 0 and largest.isfinite():
            self.scale = tensor_scale(largest, self.kind, self.margin)
        return quantised


@dataclass(frozen=True, kw_only=True)
class Quantisers:
    """The recipe of one linear layer; the histories are there for delayed scaling alone."""

    recipe: FP8Recipe
    gradient_format: Format
    input: AmaxHistory | None = None
    weight: AmaxHistory | None = None
    gradient: AmaxHistory | None = None

    @classmethod
    def of(
        cls, recipe: FP8Recipe, fp8_format: Literal["hybrid", "e4m3"], group: dist.ProcessGroup | None = None
    ) -> "Quantisers":
        """`fp8_format` hybrid: E5M2 gradients. `group`: ranks that share delayed scaling's amax."""
        gradient: Format = "e5m2" if fp8_format == "hybrid" else "e4m3"
        if recipe != "delayed":
            return cls(recipe=recipe, gradient_format=gradient)
        kinds: dict[str, Format] = {"input": "e4m3", "weight": "e4m3", "gradient": gradient}
        histories = {name: AmaxHistory(kind, group=group) for name, kind in kinds.items()}
        return cls(recipe=recipe, gradient_format=gradient, **histories)

    def activation(self, x: Tensor, moves_on: bool = True) -> tuple[Tensor, Tensor]:
        """x [r, i] as operand of the forward product (summed over i) and of the weight's gradient (summed over r)."""
        return self._both_ways(x, "e4m3", self.input, moves_on)

    def output_gradient(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """grad [r, o] as operand of the input's gradient (summed over o) and of the weight's (summed over r)."""
        return self._both_ways(grad, self.gradient_format, self.gradient, True)

    def parameter(self, weight: Tensor, moves_on: bool = True) -> tuple[Tensor, Tensor]:
        """weight [o, i] as operand of the forward product (summed over i) and of the input's gradient (over o)."""
        if self.recipe == "blockwise":
            quantised = quantise_blocks(weight, "e4m3", (BLOCK, BLOCK))
            return quantised, quantised
        return self._both_ways(weight, "e4m3", self.weight, moves_on)

    def _both_ways(
        self, values: Tensor, kind: Format, history: AmaxHistory | None, moves_on: bool
    ) -> tuple[Tensor, Tensor]:
        """fp32 [m, n], quantised for a sum along n and for a sum along m."""
        if self.recipe in ("blockwise", "mxfp8"):
            size = BLOCK if self.recipe == "blockwise" else MX_BLOCK
            return quantise_blocks(values, kind, (1, size)), quantise_blocks(values, kind, (size, 1))
        if history is not None:
            quantised = history.quantise(values, moves_on)
        else:
            quantised = quantise(values, kind, tensor_scale(values.abs().amax(), kind))
        return quantised, quantised


def fp8_linear(x: Tensor, weight: Tensor, quantisers: Quantisers) -> Tensor:
    """x [..., i], weight [o, i] -> [..., o], all three products of operands that the recipe quantised.

    Delayed scaling moves on where gradients are recorded: not in evaluation, and once with full recomputation.
    """
    output: Any = FP8LinearFunction.apply(x, weight, quantisers, torch.is_grad_enabled())
    return output


class FP8LinearFunction(Function):
    """See `fp8_linear`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, quantisers: Quantisers, moves_on: bool) -> Tensor:
        along_input, along_rows = quantisers.activation(x.flatten(0, -2).float(), moves_on)
        for_output, for_input = quantisers.parameter(weight.float(), moves_on)
        ctx.save_for_backward(along_rows, for_input)
        ctx.quantisers, ctx.shape, ctx.dtypes = quantisers, x.shape, (x.dtype, weight.dtype)
        return (along_input @ for_output.t()).to(x.dtype).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        along_output, along_rows = ctx.quantisers.output_gradient(grad.flatten(0, -2).float())
        grad_x = (along_output @ weight).to(ctx.dtypes[0]).view(ctx.shape)
        grad_weight = (along_rows.t() @ x).to(ctx.dtypes[1])
        return grad_x, grad_weight, None, None
