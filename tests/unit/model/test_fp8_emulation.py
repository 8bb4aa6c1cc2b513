"""Emulated FP8 against the formats' definitions, closed-form scales, naive loops and bookkeeping by hand."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from megatron_mimo.config import ConfigError, PrecisionConfig
from megatron_mimo.model.fp8_emulation import (
    AmaxHistory,
    Quantisers,
    fp8_linear,
    power_of_two_scale,
    quantise,
    quantise_blocks,
    round_to_format,
    tensor_scale,
)

RECIPES: tuple[Any, ...] = ("delayed", "tensorwise", "blockwise", "mxfp8")
BITS = {"e4m3": (4, 3, 7), "e5m2": (5, 2, 15)}
"""Exponent bits, mantissa bits, bias."""


def format_values(kind: str) -> list[float]:
    """All finite non-negative values, from the definition of the format (arXiv:2209.05433, table 1)."""
    exponent_bits, mantissa_bits, bias = BITS[kind]
    values = []
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            if kind == "e5m2" and exponent == 31:
                continue
            if kind == "e4m3" and exponent == 15 and mantissa == 7:
                continue
            fraction = mantissa / 2**mantissa_bits
            values.append(2.0 ** (1 - bias) * fraction if exponent == 0 else 2.0 ** (exponent - bias) * (1 + fraction))
    return values


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_rounding_takes_the_nearest_value_of_the_format(kind: Any) -> None:
    values = torch.tensor(format_values(kind), dtype=torch.float64)
    assert torch.equal(round_to_format(values.float(), kind).double(), values)
    generator = torch.Generator().manual_seed(0)
    exponents = torch.empty(4000).uniform_(-18, math.log2(float(values[-1])), generator=generator)
    samples = torch.exp2(exponents) * torch.where(torch.rand(4000, generator=generator) < 0.5, -1, 1)
    nearest = (samples.abs().double()[:, None] - values).abs().min(dim=1).values
    rounded = round_to_format(samples, kind).double()
    torch.testing.assert_close((samples.double() - rounded).abs(), nearest, rtol=0, atol=0)
    assert torch.equal(rounded.sign() * samples.sign().double(), rounded.abs().sign())


def test_values_beyond_the_format_saturate() -> None:
    huge = torch.tensor([1e9, -1e9, 449.0, -70000.0])
    assert round_to_format(huge, "e4m3").tolist() == [448, -448, 448, -448]
    assert round_to_format(huge, "e5m2").tolist() == [57344, -57344, 448, -57344]


def test_scales_in_closed_form() -> None:
    amax = torch.tensor([448.0, 3.0, 1e-3, 0.0, float("inf")])
    assert tensor_scale(amax, "e4m3").tolist() == pytest.approx([1, 448 / 3, 448e3, 1, 1])
    assert tensor_scale(amax, "e5m2", margin=2)[1].item() == pytest.approx(57344 / 3 / 4)
    # 448 / 3 = 149.3: the power of two below is 128; 448 / 448 = 1 stays.
    assert power_of_two_scale(amax, "e4m3").tolist() == [1, 128, 2.0 ** math.floor(math.log2(448e3)), 1, 1]


def test_delayed_scaling_by_hand() -> None:
    history = AmaxHistory("e4m3", length=3, margin=1)
    amaxes = [2.0, 8.0, 4.0, 0.0, 1.0, 0.5, 0.25]
    # In use before each tensor: first 1, then 448 / (largest of the last three) / 2.
    expected = [1.0] + [448 / largest / 2 for largest in (2, 8, 8, 8, 4, 1)]
    used = []
    for amax in amaxes:
        used.append(history.scale.item())
        values = torch.tensor([amax, -amax / 3])
        quantised = history.quantise(values)
        torch.testing.assert_close(quantised, round_to_format(values * used[-1], "e4m3") / used[-1])
    assert used == pytest.approx(expected)
    scale = history.scale.item()
    history.quantise(torch.tensor([100.0]), moves_on=False)
    assert history.scale.item() == scale


def test_delayed_scaling_saturates_what_outgrows_its_history() -> None:
    history = AmaxHistory("e4m3")
    history.quantise(torch.tensor([1.0]))
    assert history.quantise(torch.tensor([10.0])).item() == pytest.approx(1.0)
    assert history.quantise(torch.tensor([10.0])).item() == pytest.approx(10.0)


def naive_blocks(values: Tensor, block: tuple[int, int]) -> Tensor:
    """Block by block, with the scale written out."""
    result = values.clone()
    for top in range(0, values.shape[0], block[0]):
        for left in range(0, values.shape[1], block[1]):
            tile = values[top : top + block[0], left : left + block[1]]
            amax = tile.abs().max().item()
            scale = 2.0 ** math.floor(math.log2(448 / amax)) if amax else 1.0
            cast = (tile * scale).to(torch.float8_e4m3fn).float() / scale
            result[top : top + block[0], left : left + block[1]] = cast
    return result


@pytest.mark.parametrize("block", [(1, 128), (128, 1), (128, 128), (1, 32)])
@pytest.mark.parametrize("shape", [(256, 384), (130, 200), (3, 40)])
def test_blocks_are_those_of_a_naive_loop(block: tuple[int, int], shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.randn(shape) * torch.exp(3 * torch.randn(shape))
    values[0] = 0
    assert torch.equal(quantise_blocks(values, "e4m3", block), naive_blocks(values, block))


@pytest.mark.parametrize("fp8_format", ["hybrid", "e4m3"])
@pytest.mark.parametrize("recipe", ["tensorwise", "blockwise", "mxfp8"])
def test_all_three_products_see_quantised_operands(recipe: Any, fp8_format: Literal["hybrid", "e4m3"]) -> None:
    torch.manual_seed(0)
    x, weight, grad = torch.randn(192, 160), torch.randn(144, 160), 1e-3 * torch.randn(192, 144)
    gradient: Any = "e5m2" if fp8_format == "hybrid" else "e4m3"

    def along(values: Tensor, axis: int, kind: Any, is_weight: bool = False) -> Tensor:
        if recipe == "tensorwise":
            return quantise(values, kind, tensor_scale(values.abs().max(), kind))
        size = 128 if recipe == "blockwise" else 32
        square = recipe == "blockwise" and is_weight
        return quantise_blocks(values, kind, (128, 128) if square else ((size, 1) if axis == 0 else (1, size)))

    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    output = fp8_linear(*leaves, Quantisers.of(recipe, fp8_format))
    output.backward(grad)
    expected = along(x, 1, "e4m3") @ along(weight, 1, "e4m3", True).t()
    expected_x = along(grad, 1, gradient) @ along(weight, 0, "e4m3", True)
    expected_weight = along(grad, 0, gradient).t() @ along(x, 0, "e4m3")
    found = output, leaves[0].grad, leaves[1].grad
    for actual, wanted in zip(found, (expected, expected_x, expected_weight), strict=True):
        torch.testing.assert_close(actual, wanted)
    assert not torch.allclose(output, x @ weight.t(), rtol=1e-3, atol=1e-3)


def relative_error(recipe: Any, x: Tensor, weight: Tensor) -> float:
    quantisers = Quantisers.of(recipe, "hybrid")
    exact = x.double() @ weight.double().t()
    # Twice: delayed scaling needs a step to know the tensors.
    result = [fp8_linear(x, weight, quantisers) for _ in range(2)][-1]
    return float((result - exact).norm() / exact.norm())


def test_blocks_bear_outliers_that_cost_a_whole_tensor_its_range() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(256, 512), torch.randn(256, 512)
    plain = {recipe: relative_error(recipe, x, weight) for recipe in RECIPES}
    # Two operands with 3 mantissa bits each: about 2**-4 / sqrt(3) * sqrt(2) at most, whatever the scale.
    assert all(0.01 < error < 0.05 for error in plain.values())
    # One activation a million times the rest, in a product that does not hide the others' errors.
    x[7, 3] = 1e6
    weight[:, 3] = 0
    errors = {recipe: relative_error(recipe, x, weight) for recipe in RECIPES}
    assert errors["tensorwise"] > 0.5 and errors["delayed"] > 0.5
    assert errors["mxfp8"] < errors["blockwise"] < 0.2 * errors["tensorwise"]


@pytest.mark.parametrize(
    "settings",
    [
        {"fp8_emulation": True},
        {"fp8_emulation": True, "fp8_recipe": "blockwise", "backend": "transformer_engine"},
        {"fp8_recipe": "blockwise", "backend": "torch"},
        {"fp8_emulation": True, "fp8_recipe": "blockwise", "dtype": "fp32"},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="precision.fp8"):
        PrecisionConfig(**settings)
