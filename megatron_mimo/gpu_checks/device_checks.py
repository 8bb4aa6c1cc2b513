"""Checks that layers, heads and number formats compute on a GPU what the CPU's parts compute.

Each check returns a Finding. On a CPU (`on_gpu` False) a check runs what it can of the same code: torch layers and
emulated FP8 stand in for Transformer Engine, and a few steps for many. Such a run shows that the check works, no more.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.config import ModelConfig, PrecisionConfig
from megatron_mimo.config.precision import FP8Recipe
from megatron_mimo.gpu_checks.device_finding import (
    NANO,
    NARROW,
    WIDE,
    Finding,
    difference,
    precision,
    supported_recipes,
    train_curve,
)
from megatron_mimo.model.chunked_cross_entropy import chunked_cross_entropy
from megatron_mimo.model.fp8_emulation import Quantisers, fp8_linear
from megatron_mimo.platform.environment import environment_report, package_version
from megatron_mimo.training.probe import Probe, library_rows, one_process


def environment(on_gpu: bool) -> Finding:
    """Versions, and that Transformer Engine and megatron-core's layers on it import."""
    report = environment_report()
    if on_gpu:
        import transformer_engine.pytorch  # noqa: F401  # pyright: ignore[reportMissingImports]
        from megatron.core.extensions.transformer_engine import HAVE_TE

        if not HAVE_TE:
            # megatron-core goes on without a word, and its layers would be missing later.
            return Finding(False, "transformer_engine imports, but megatron-core could not import what it needs of it")

        device = f"{torch.cuda.get_device_name()}, compute capability {torch.cuda.get_device_capability()}"
    else:
        device = "no CUDA device"
    versions = {name: package_version(name) for name in ("torch", "megatron-core", "transformer-engine")}
    return Finding(True, f"{device}; " + ", ".join(f"{k} {v}" for k, v in versions.items()), {"report": report})


def recipes_on_nano(on_gpu: bool) -> Finding:
    """FP8 losses after 200 steps of nano beside bf16's: mean of the last 20."""
    steps = 200 if on_gpu else 3
    return _recipe_losses(on_gpu, NANO if on_gpu else NARROW, steps, last=20, seq_length=256, learning_rate=1e-3)


def recipes_on_slice(on_gpu: bool) -> Finding:
    """The same at MiMo-7B's width: 12 steps, mean of the last 4."""
    model, steps, seq_length = (WIDE, 12, 2048) if on_gpu else (NARROW, 3, 128)
    return _recipe_losses(on_gpu, model, steps, last=4, seq_length=seq_length, learning_rate=3e-4)


def _recipe_losses(
    on_gpu: bool, model: ModelConfig, steps: int, last: int, seq_length: int, learning_rate: float
) -> Finding:
    losses = {}
    for recipe in ("none", *supported_recipes(on_gpu)):
        kind = precision(on_gpu, recipe, cross_entropy="chunked")
        curve = train_curve(model, kind, steps, seq_length, learning_rate)
        losses[recipe] = sum(row[0] for row in curve[-last:]) / len(curve[-last:])
    bf16 = losses.pop("none")
    differences = {recipe: loss / bf16 - 1 for recipe, loss in losses.items()}
    worst = max(abs(value) for value in differences.values())
    summary = f"bf16 {bf16:.4f}; " + ", ".join(f"{name} {value:+.2%}" for name, value in differences.items())
    return Finding(worst < 0.005 if on_gpu else None, summary, {"bf16": bf16, "losses": losses, "steps": steps})


def kernels(on_gpu: bool) -> Finding:
    """Fused layers against the torch backend in bf16, same weights and tokens: losses and gradient norm, 5 steps."""
    model, seq_length = (WIDE, 1024) if on_gpu else (NARROW, 128)
    return _compare(model, precision(on_gpu), precision(on_gpu, backend="torch", cross_entropy="chunked"), seq_length)


def mtp(on_gpu: bool) -> Finding:
    """Three MTP layers that share head and embedding: fused against torch layers, every depth's loss."""
    model = replace(NANO if on_gpu else NARROW, mtp_num_layers=3)
    return _compare(model, precision(on_gpu), precision(on_gpu, backend="torch"), 256 if on_gpu else 64)


def chunked_heads(on_gpu: bool) -> Finding:
    """Chunked heads against whole ones at MiMo-7B's vocabulary: losses, both gradients, peak memory."""
    tokens, vocab, hidden = (4096, 151680, 4096) if on_gpu else (64, 5000, 32)
    device = "cuda" if on_gpu else "cpu"
    torch.manual_seed(0)
    x = torch.randn(tokens, hidden, device=device, dtype=torch.bfloat16)
    weight = (0.02 * torch.randn(vocab, hidden, device=device)).bfloat16()
    labels, grad = torch.randint(0, vocab, (tokens,), device=device), torch.rand(tokens, device=device)

    def whole(x: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy((x @ weight.t()).float(), labels, reduction="none")

    def chunked(x: Tensor, weight: Tensor) -> Tensor:
        return chunked_cross_entropy(x, weight, labels, 4096)

    found = [_gradients_and_peak(head, x, weight, grad) for head in (whole, chunked)]
    errors = [_relative(a, b) for a, b in zip(found[1][0], found[0][0], strict=True)]
    facts = {"relative_errors": errors, "peak_gib": [peak / 2**30 for _, peak in found]}
    summary = f"largest relative difference {max(errors):.1e}"
    if on_gpu:
        summary += ", peak {:.1f} -> {:.1f} GiB".format(*facts["peak_gib"])
    return Finding(max(errors) < 0.02, summary, facts)


def _gradients_and_peak(head: Callable, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[list[Tensor], int]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    losses = head(x, weight)
    losses.backward(grad)
    peak = torch.cuda.max_memory_allocated() if x.is_cuda else 0
    return [cast(Tensor, tensor).detach() for tensor in (losses, x.grad, weight.grad)], peak


def emulation(on_gpu: bool) -> Finding:
    """A linear layer's three products under each recipe: Transformer Engine against the emulation.

    The yardstick is the recipe's own rounding error: emulation must come far closer to the layer than exact products.
    """
    if not on_gpu:
        return Finding(None, "emulation against exact products only: no Transformer Engine", _emulated_errors())
    ratios = {}
    for recipe in supported_recipes(on_gpu):
        operands = _linear_operands("cuda")
        engine = _engine_products(recipe, *operands)
        emulated = _emulated_products(recipe, *operands)
        exact = _exact_products(*operands)
        parts = zip(engine, emulated, exact, strict=True)
        ratios[recipe] = [_relative(a, b) / _relative(a, c) for a, b, c in parts]
    worst = max(max(values) for values in ratios.values())
    summary = "distance to emulation / to exact products: " + ", ".join(
        f"{name} {max(values):.3f}" for name, values in ratios.items()
    )
    return Finding(worst < 0.25, summary, {"ratios": ratios})


def _emulated_errors() -> dict[str, list[float]]:
    operands = _linear_operands("cpu")
    exact = _exact_products(*operands)
    return {
        recipe: [_relative(a, b) for a, b in zip(_emulated_products(recipe, *operands), exact, strict=True)]
        for recipe in supported_recipes(False)
    }


def _linear_operands(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """x [r, i], weight [o, i], gradient [r, o] in bf16, with a few large values."""
    torch.manual_seed(0)
    r, i, o = (1024, 512, 768) if device == "cuda" else (128, 128, 256)
    x, weight, grad = torch.randn(r, i), 0.02 * torch.randn(o, i), 1e-3 * torch.randn(r, o)
    x[::97] *= 30
    return x.to(device).bfloat16(), weight.to(device).bfloat16(), grad.to(device).bfloat16()


def _exact_products(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    x, weight, grad = x.double(), weight.double(), grad.double()
    return [x @ weight.t(), grad @ weight, grad.t() @ x]


def _emulated_products(recipe: FP8Recipe, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    quantisers = Quantisers.of(recipe, "hybrid")
    for _ in range(2):
        # Delayed scaling needs a step to know the tensors.
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        output = fp8_linear(*leaves, quantisers)
        output.backward(grad)
    return [cast(Tensor, tensor).detach() for tensor in (output, leaves[0].grad, leaves[1].grad)]


def _engine_products(recipe: FP8Recipe, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    import transformer_engine.common.recipe as recipes  # pyright: ignore[reportMissingImports]
    import transformer_engine.pytorch as te  # pyright: ignore[reportMissingImports]

    hybrid = {"fp8_format": recipes.Format.HYBRID}
    made = {
        "delayed": lambda: recipes.DelayedScaling(amax_history_len=1, amax_compute_algo="most_recent", **hybrid),
        "tensorwise": lambda: recipes.Float8CurrentScaling(**hybrid),
        "blockwise": lambda: recipes.Float8BlockScaling(**hybrid),
        "mxfp8": lambda: recipes.MXFP8BlockScaling(**hybrid),
    }[recipe]()
    layer = te.Linear(weight.shape[1], weight.shape[0], bias=False, params_dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.copy_(weight)
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        layer.weight.grad = None
        with te.fp8_autocast(enabled=True, fp8_recipe=made):
            output = layer(leaf)
        output.backward(grad)
    return [cast(Tensor, tensor).detach() for tensor in (output, leaf.grad, layer.weight.grad)]


def _relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


def compiled(on_gpu: bool) -> Finding:
    """torch.compile over the torch backend's decoder: the losses of the eager one."""
    if not on_gpu:
        return Finding(None, "runs on a GPU alone")
    model, kind = replace(NANO, num_layers=2), precision(True, backend="torch")
    eager = train_curve(model, kind, 5, 256, 1e-3)
    with one_process():
        probe = Probe(model=model, precision=kind, seq_length=256, micro_batch_size=4)
        probe.chunks[0].decoder.compile()
        rows = library_rows(20, 256).view(5, 4, 257)
        curve = [[*losses, norm] for losses, norm in (probe.step(probe.batch(batch)) for batch in rows)]
    return difference(curve, eager)


def _compare(model: ModelConfig, one: PrecisionConfig, other: PrecisionConfig, seq_length: int) -> Finding:
    first, second = (train_curve(model, kind, 5, seq_length, 3e-4) for kind in (one, other))
    return difference(first, second)
