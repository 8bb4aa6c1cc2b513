"""Checks that what is built for a GPU computes there what the CPU's parts compute; `megatron-mimo gpu-check` runs them.

Each check returns a Finding. On a CPU (`on_gpu` False) a check runs what it can of the same code: torch layers and
emulated FP8 stand in for Transformer Engine, and a few steps for many. Such a run shows that the check works, no more.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.config import ModelConfig, PrecisionConfig
from megatron_mimo.config.precision import FP8Recipe
from megatron_mimo.model.chunked_cross_entropy import chunked_cross_entropy
from megatron_mimo.model.fp8_emulation import Quantisers, fp8_linear
from megatron_mimo.model.spec import FP8_CAPABILITY
from megatron_mimo.platform.environment import environment_report, package_version
from megatron_mimo.training.probe import Probe, library_rows, one_process

NANO = ModelConfig(
    num_layers=4, hidden_size=256, ffn_hidden_size=640, num_attention_heads=4, num_query_groups=2, kv_channels=64,
    vocab_size=2048,
)  # fmt: skip
WIDE = ModelConfig(
    num_layers=1, hidden_size=4096, ffn_hidden_size=11008, num_attention_heads=32, num_query_groups=8, kv_channels=128,
    vocab_size=16384,
)  # fmt: skip
"""A layer of MiMo-7B and its MTP layer; its vocabulary has its own check."""
NARROW = replace(NANO, num_layers=1, hidden_size=128, ffn_hidden_size=256, num_attention_heads=2, vocab_size=512)
"""Stands in for both on a CPU."""
RECIPES: list[FP8Recipe] = ["delayed", "tensorwise", "blockwise", "mxfp8"]
LOSS_BAR = 0.01
"""Relative difference of losses that the same training in other kernels may show in a few bf16 steps."""


@dataclass(frozen=True)
class Finding:
    """`passed` None: nothing to judge here."""

    passed: bool | None
    summary: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """`limit_seconds` bounds a check in its own process."""

    title: str
    bar: str
    run: Callable[[bool], Finding]
    limit_seconds: int


def supported_recipes(on_gpu: bool) -> list[FP8Recipe]:
    """Recipes of this GPU; all of them emulated."""
    if not on_gpu:
        return RECIPES
    capability = torch.cuda.get_device_capability()
    return [recipe for recipe in RECIPES if capability >= FP8_CAPABILITY[recipe]]


def precision(on_gpu: bool, recipe: FP8Recipe = "none", **changes: Any) -> PrecisionConfig:
    """bf16 and the device's backend with a recipe: Transformer Engine on a GPU, torch and emulation elsewhere."""
    settings: dict[str, Any] = {"dtype": "bf16", "fp8_recipe": recipe}
    settings["backend"] = "transformer_engine" if on_gpu else "torch"
    settings["fp8_emulation"] = not on_gpu and recipe != "none"
    return PrecisionConfig(**settings | changes)


def environment(on_gpu: bool) -> Finding:
    """Versions, and that Transformer Engine and megatron-core's layers on it import."""
    report = environment_report()
    if on_gpu:
        import megatron.core.extensions.transformer_engine  # noqa: F401
        import transformer_engine.pytorch  # noqa: F401  # pyright: ignore[reportMissingImports]

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


def train_curve(
    model: ModelConfig, kind: PrecisionConfig, steps: int, s: int, learning_rate: float
) -> list[list[float]]:
    """Losses by depth of every step, and the gradient's norm at the end of each row."""
    b = 4 if model.hidden_size <= NANO.hidden_size else 1
    with one_process():
        probe = Probe(model=model, precision=kind, seq_length=s, micro_batch_size=b, learning_rate=learning_rate)
        rows = library_rows(steps * b, s).view(steps, b, s + 1)
        curve = []
        for batch in rows:
            losses, norm = probe.step(probe.batch(batch))
            curve.append([*losses, norm])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return curve


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
    return _difference(curve, eager)


def _compare(model: ModelConfig, one: PrecisionConfig, other: PrecisionConfig, seq_length: int) -> Finding:
    first, second = (train_curve(model, kind, 5, seq_length, 3e-4) for kind in (one, other))
    return _difference(first, second)


def _difference(first: list[list[float]], second: list[list[float]]) -> Finding:
    """Largest relative difference of any step's losses, and of its gradient norm, which may be five times as large."""
    pairs = [
        (a, b) for row, other in zip(first, second, strict=True) for a, b in zip(row[:-1], other[:-1], strict=True)
    ]
    loss = max(abs(a / b - 1) for a, b in pairs)
    norm = max(abs(row[-1] / other[-1] - 1) for row, other in zip(first, second, strict=True))
    summary = f"{len(first[0]) - 1} losses, {len(first)} steps: difference {loss:.2e}, gradient norm {norm:.2e}"
    return Finding(loss < LOSS_BAR and norm < 5 * LOSS_BAR, summary, {"first": first, "second": second})


def checkpoints(on_gpu: bool) -> Finding:
    """A run saved on the CPU (torch layers) continues here, and the reverse: the same losses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = _write_small_run(folder)
        crossed = {}
        for start, rest in (("cpu", "device"), ("device", "cpu")):
            stayed, moved = folder / f"from_{start}", folder / f"from_{start}_on_{rest}"
            expected = _pretrain(settings, stayed, start, resumes=False)
            shutil.copytree(stayed, moved)
            shutil.rmtree(moved / "checkpoints" / "step_00000008")
            found = _pretrain(settings, moved, rest, resumes=True)
            crossed[f"{start} -> {rest}"] = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    summary = ", ".join(f"{way} {value:.1e}" for way, value in crossed.items())
    return Finding(max(crossed.values()) < 0.01, f"largest relative difference of 4 losses: {summary}", crossed)


def _write_small_run(folder: Path) -> list[str]:
    """Tokenized library sources, and the settings of a small run on them."""
    from megatron_mimo.data.preprocess import PreprocessConfig, SourceConfig, TokenizerConfig, preprocess

    lines = [bytes(row.tolist()).decode("utf-8", "replace") for row in library_rows(200, 500)]
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(lines))
    )
    source = SourceConfig(name="library", domain="code", jsonl=str(folder / "text.jsonl"), valid_share=0.1)
    data = folder / "data"
    tokenizer = TokenizerConfig(vocab_size=400)
    preprocess(PreprocessConfig(output_dir=str(data), tokenizer=tokenizer, sources=[source]), report=lambda line: None)
    (folder / "mixture.yaml").write_text("sources: {library: 1.0}\n")
    (folder / "run.yaml").write_text(json.dumps(_small_run(data)))
    return [str(folder / "run.yaml")]


def _small_run(data: Path) -> dict[str, Any]:
    """A configuration, which as JSON is YAML too. fp32 arithmetic would hide nothing, but the GPU's layers are bf16."""
    tokens = 8 * 4 * 128
    rate = {"kind": "constant", "tokens": tokens, "start": 1e-3, "end": 1e-3}
    sizes = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups", "kv_channels")
    stage = {"name": "only", "tokens": tokens, "seq_length": 128, "rotary_base": 10000, "mixture": "mixture.yaml"}
    return {
        "name": "check",
        "output_dir": "overridden",
        "num_threads": 1,
        "model": {name: getattr(NARROW, name) for name in sizes} | {"vocab_size": 512},
        "stages": [stage | {"micro_batch_size": 4, "global_batch_size": 4, "learning_rate": [rate]}],
        "data": {"path": str(data), "tokenizer": str(data / "tokenizer"), "num_workers": 0},
        "evaluation": {"sequences": 0},
        "checkpoint": {"every_steps": 4, "asynchronous": False},
    }


def _pretrain(settings: list[str], output_dir: Path, where: str, resumes: bool) -> list[float]:
    """Train eight steps, or what is left of them, on the CPU or on this machine's device; losses of the last four."""
    command = [sys.executable, "-m", "megatron_mimo.pretrain", *settings, f"output_dir={output_dir}"]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if where == "cpu" else {}
    finished = subprocess.run(command, env=os.environ | hidden, capture_output=True, text=True, timeout=300)
    if finished.returncode:
        raise RuntimeError(f"pre-training on {where} failed:\n{finished.stdout[-1500:]}{finished.stderr[-1500:]}")
    if "resumed from" not in finished.stdout and resumes:
        raise RuntimeError(f"the run on {where} began anew instead of resuming:\n{finished.stdout[-1500:]}")
    rows = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row][-4:]


CHECKS: dict[str, Check] = {
    "environment": Check("Transformer Engine and megatron-core import", "imports", environment, 60),
    "recipes_nano": Check("FP8 recipes against bf16, nano, 200 steps", "loss within 0.5 %", recipes_on_nano, 120),
    "recipes_slice": Check("FP8 recipes against bf16, MiMo-7B width", "loss within 0.5 %", recipes_on_slice, 120),
    "kernels": Check("fused kernels against torch layers", "losses within 1 %", kernels, 60),
    "mtp": Check("three MTP layers, fused against torch", "losses within 1 %", mtp, 60),
    "heads": Check("chunked heads against whole ones", "within 2 %", chunked_heads, 60),
    "emulation": Check("FP8 emulation against Transformer Engine", "1/4 of the rounding", emulation, 60),
    "compile": Check("torch.compile against eager", "losses within 1 %", compiled, 90),
    "checkpoints": Check("checkpoints cross between CPU and GPU", "losses within 1 %", checkpoints, 150),
}
"""In the order in which they run."""
