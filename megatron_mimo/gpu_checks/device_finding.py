"""What the checks of a device share: their findings, small models, and training a few steps of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from megatron_mimo.config import ModelConfig, PrecisionConfig
from megatron_mimo.config.precision import FP8Recipe
from megatron_mimo.model.spec import FP8_CAPABILITY
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
    """`limit_seconds` bounds a check, the start of a process excepted."""

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


def train_curve(
    model: ModelConfig,
    kind: PrecisionConfig,
    steps: int,
    seq_length: int,
    learning_rate: float,
    micro_batches: int = 1,
    **probe: Any,
) -> list[list[float]]:
    """Losses by depth of every step, and the gradient's norm at the end of each row; `probe`: settings of the Probe."""
    b = 4 if model.hidden_size <= NANO.hidden_size else 1
    probe = {"seq_length": seq_length, "micro_batch_size": b, "learning_rate": learning_rate} | probe
    with one_process():
        trained = Probe(model=model, precision=kind, **probe)
        b = trained.micro_batch_size
        rows = library_rows(steps * micro_batches * b, seq_length).view(steps, micro_batches, b, seq_length + 1)
        curve = []
        for step in rows:
            losses, norm = trained.step(*(trained.batch(batch) for batch in step))
            curve.append([*losses, norm])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return curve


def difference(first: list[list[float]], second: list[list[float]], *, bar: float = LOSS_BAR) -> Finding:
    """Largest relative difference of any step's losses, and of its gradient norm, which may be five times as large."""
    pairs = [
        (a, b) for row, other in zip(first, second, strict=True) for a, b in zip(row[:-1], other[:-1], strict=True)
    ]
    loss = max(abs(a / b - 1) for a, b in pairs)
    norm = max(abs(row[-1] / other[-1] - 1) for row, other in zip(first, second, strict=True))
    summary = f"{len(first[0]) - 1} losses, {len(first)} steps: difference {loss:.2e}, gradient norm {norm:.2e}"
    return Finding(loss < bar and norm < 5 * bar, summary, {"first": first, "second": second})
