"""The torch backend's autograd nodes against the same thing composed from torch's operators, in fp64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.model.product_attention import product_attention
from megatron_mimo.model.torch_functions import (
    LOSS_CHUNK_ROWS,
    CrossEntropyFunction,
    RMSNormFunction,
    RotaryQKVFunction,
    SwiGLUFunction,
)

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def assert_same_gradients(
    function: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor, dtype: torch.dtype
) -> None:
    """Outputs and gradients of `function` on `dtype` inputs are those of `reference` on fp64 copies."""
    inputs = tuple(tensor.to(dtype) for tensor in inputs)
    results = []
    for run, kind in ((function, dtype), (reference, torch.float64)):
        leaves = [tensor.to(kind).clone().requires_grad_() for tensor in inputs]
        # Multiplied by one, for a function may overwrite its input, and leaves may not be overwritten.
        output = run(*(leaf * 1 for leaf in leaves))
        output.backward(torch.linspace(-1, 1, output.numel()).view_as(output).to(output.dtype))
        results.append([output, *(leaf.grad for leaf in leaves)])
    for actual, expected in zip(*results, strict=True):
        error = (actual.double() - expected).norm() / expected.norm()
        assert error < TOLERANCES[dtype], error


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_rms_norm(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = 3 * torch.randn(5, 3, 48), torch.rand(48) + 0.5

    def reference(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-3) * weight

    assert_same_gradients(lambda x, w: RMSNormFunction.apply(x, w, 1e-3), reference, x, weight, dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_rotary_queries_keys_and_values(dtype: torch.dtype) -> None:
    """Against complex numbers: coordinates i and i + d/2 of position p are turned by p * base^(-2i/d)."""
    torch.manual_seed(0)
    s, b, g, m, d = 7, 3, 2, 3, 8
    angles = torch.outer(torch.arange(s).double(), 100.0 ** (-torch.arange(0, d, 2) / d))
    cosines, sines = (torch.cat([part(angles)] * 2, dim=-1) for part in (torch.cos, torch.sin))

    def turned(x: Tensor) -> Tensor:
        pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    def reference(mixed: Tensor) -> Tensor:
        heads = mixed.view(s, b, g, m + 2, d).permute(1, 2, 3, 0, 4)
        parts = turned(heads[:, :, :m]).flatten(1, 2), turned(heads[:, :, m]), heads[:, :, m + 1]
        return torch.cat(parts, dim=1)

    def function(mixed: Tensor) -> Tensor:
        return torch.cat(RotaryQKVFunction.apply(mixed, cosines.to(dtype), sines.to(dtype)), dim=1)

    mixed = torch.randn(s, b, g, (m + 2) * d)
    assert_same_gradients(function, reference, mixed, dtype=dtype)
    assert [part.shape[1] for part in RotaryQKVFunction.apply(mixed, cosines.float(), sines.float())] == [g * m, g, g]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_swiglu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)

    def reference(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return gate * torch.sigmoid(gate) * up

    assert_same_gradients(SwiGLUFunction.apply, reference, torch.randn(7, 2, 66), dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("rows", [1, LOSS_CHUNK_ROWS, 2 * LOSS_CHUNK_ROWS + 3])
def test_cross_entropy(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    logits, labels = 4 * torch.randn(rows, 50), torch.randint(0, 50, (rows,))
    # A label that the model all but rules out, and one that it is sure of.
    logits[0, labels[0]] -= 200
    logits[-1, labels[-1]] += 20
    assert_same_gradients(
        lambda logits: CrossEntropyFunction.apply(logits, labels),
        lambda logits: F.cross_entropy(logits, labels, reduction="none"),
        logits,
        dtype=dtype,
    )


def documents(s: int) -> Tensor:
    """Causal inside two documents that meet at s // 3."""
    number = (torch.arange(s) >= s // 3).int()
    return ((number[:, None] == number[None, :]) & torch.ones(s, s, dtype=torch.bool).tril())[None, None]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("s", [5, 128, 391])
@pytest.mark.parametrize("masked", [False, True])
def test_product_attention(dtype: torch.dtype, s: int, masked: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(s, 2, 4, 8), torch.randn(s, 2, 2, 8), torch.randn(s, 2, 2, 8)
    visible = documents(s) if masked else None

    def permuted(*tensors: Tensor) -> list[Tensor]:
        return [tensor.permute(1, 2, 0, 3) for tensor in tensors]

    def reference(*tensors: Tensor) -> Tensor:
        seen = torch.ones(s, s, dtype=torch.bool).tril() if visible is None else visible
        q, k, v = permuted(*tensors)
        k, v = (tensor.repeat_interleave(2, dim=1) for tensor in (k, v))
        scores = (q @ k.transpose(-1, -2) * 0.3).masked_fill(~seen, float("-inf"))
        return (scores.softmax(dim=-1) @ v).permute(2, 0, 1, 3)

    assert_same_gradients(
        lambda *tensors: product_attention(*permuted(*tensors), visible, 0.3), reference, q, k, v, dtype=dtype
    )


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_product_attention_of_some_rows(dtype: torch.dtype) -> None:
    """A context-parallel rank's queries look at the whole sequence's keys, as a mask of two axes says."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 200, 8), torch.randn(2, 2, 200, 8)
    visible = torch.tensor([0, 1, 2, 197, 198, 199])[:, None] >= torch.arange(200)[None, :]

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True).permute(2, 0, 1, 3)

    assert_same_gradients(
        lambda *tensors: product_attention(*tensors, visible, 8**-0.5), reference, q, k, v, dtype=dtype
    )
