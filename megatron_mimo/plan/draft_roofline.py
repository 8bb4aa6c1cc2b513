"""What drafting brings, on paper: acceptance, the cost of an MTP layer and of its head, and the batch.

A decoding step without drafts reads all weights once, and yields one token for each request. A step with k drafts runs
the main model over k + 1 tokens of each request, and k draft passes of one MTP layer and an output head; it yields one
token and the accepted drafts. Each pass takes the longer of two times: its bytes over the memory's rate, its operations
over the peak rate (a roofline). To that come two times that no roofline knows, of every step and of every draft pass.

    python -m megatron_mimo.plan.draft_roofline --acceptance 0.81 0.56 0.36      # MiMo-7B on several devices
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config import ModelConfig
from megatron_mimo.plan.memory import layer_parameters, mtp_layer_parameters

Form = Literal["parallel", "recursive"]
MIMO_7B = ModelConfig(
    num_layers=36,
    hidden_size=4096,
    ffn_hidden_size=11008,
    num_attention_heads=32,
    num_query_groups=8,
    kv_channels=128,
    vocab_size=151680,
)


@dataclass(frozen=True, kw_only=True)
class DraftDevice:
    """What decodes. Rates are the maker's; both times have to be measured, and are zero on paper."""

    name: str
    bytes_per_second: float
    """Of its memory."""
    flops_per_second: float
    """Dense, in the weights' format."""
    step_seconds: float = 0.0
    """Of every step, with drafts or without: scheduling, sampling."""
    draft_pass_seconds: float = 0.0
    """Of every draft pass: launches, sampling, attention's bookkeeping."""


DEVICES = (
    DraftDevice(name="H200", bytes_per_second=4.8e12, flops_per_second=989.5e12),
    DraftDevice(name="H20", bytes_per_second=4.0e12, flops_per_second=148e12),
    DraftDevice(name="RTX 4090", bytes_per_second=1.008e12, flops_per_second=165.2e12),
    DraftDevice(name="A10", bytes_per_second=0.6e12, flops_per_second=125e12),
)
"""Data sheets of the makers; of the H20 vendors' tables."""


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """How drafts are made, and how many are right."""

    acceptance: Sequence[float]
    """Share of the steps that accept the first draft, the second, ...: falling, k of them; none drafts nothing."""
    form: Form = "recursive"
    vocabulary: int | None = None
    """Tokens that may be drafted; None: all."""

    @property
    def tokens_per_step(self) -> float:
        return 1 + sum(self.acceptance)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is decoded together."""

    batch: int = 1
    context: int = 1024
    """Tokens that each request has so far."""
    bytes_per_weight: float = 2.0
    bytes_per_cached: float = 2.0
    """Of a number in the key/value cache."""


@dataclass(frozen=True)
class Prediction:
    """A step with drafts, in parts, and what it brings."""

    main_seconds: float
    layer_seconds: float
    """The MTP layers, all draft passes together."""
    head_seconds: float
    """Their output heads."""
    other_seconds: float
    plain_seconds: float
    """A step without drafts."""
    tokens_per_step: float

    @property
    def step_seconds(self) -> float:
        return self.main_seconds + self.layer_seconds + self.head_seconds + self.other_seconds

    @property
    def speedup(self) -> float:
        """Tokens per second beside decoding without drafts."""
        return self.tokens_per_step * self.plain_seconds / self.step_seconds


def predict(model: ModelConfig, device: DraftDevice, drafting: Drafting, load: Load | None = None) -> Prediction:
    """The time of a step in parts. Parallel layers run over every token of the step, as the plugin does; a recursive
    layer does so in its first draft pass, and over one token of each request in the others."""
    load = load or Load()
    drafts, batch = len(drafting.acceptance), load.batch
    head = model.hidden_size * model.vocab_size
    body = model.num_layers * layer_parameters(model)
    rows = batch * (drafts + 1)

    def main(tokens: int) -> float:
        return _pass(body, model.num_layers, tokens, model, device, load) + _product(head, tokens, device, load)

    drafted_head = model.hidden_size * (drafting.vocabulary or model.vocab_size)
    by_pass = [rows if drafting.form == "parallel" or not place else batch for place in range(drafts)]
    layer = mtp_layer_parameters(model)
    return Prediction(
        main_seconds=main(rows),
        layer_seconds=sum(_pass(layer, 1, tokens, model, device, load) for tokens in by_pass),
        head_seconds=drafts * _product(drafted_head, batch, device, load),
        other_seconds=device.step_seconds + drafts * device.draft_pass_seconds,
        plain_seconds=main(batch) + device.step_seconds,
        tokens_per_step=drafting.tokens_per_step,
    )


def _pass(parameters: int, layers: int, tokens: int, model: ModelConfig, device: DraftDevice, load: Load) -> float:
    """Seconds of `layers` layers over `tokens` tokens: their weights, and attention over the context."""
    numbers_per_place = 2 * model.num_query_groups * model.kv_channels
    cached = load.batch * load.context * layers * numbers_per_place * load.bytes_per_cached
    attention = 4.0 * load.context * model.num_attention_heads * model.kv_channels * layers
    moved, operations = parameters * load.bytes_per_weight + cached, (2.0 * parameters + attention) * tokens
    return max(moved / device.bytes_per_second, operations / device.flops_per_second)


def _product(parameters: int, tokens: int, device: DraftDevice, load: Load) -> float:
    """Seconds of one matrix product."""
    moved, operations = parameters * load.bytes_per_weight, 2.0 * parameters * tokens
    return max(moved / device.bytes_per_second, operations / device.flops_per_second)


def table(acceptance: Sequence[float], batches: Sequence[int], vocabulary: int, context: int) -> Iterator[str]:
    """MiMo-7B in bf16: a line a device, form and number of drafts, with the speed-up by batch."""
    yield f"{'device':<10}{'form':<24}{'k':>2}" + "".join(f"{f'batch {batch}':>11}" for batch in batches)
    forms: list[tuple[str, Form, int | None]] = [
        ("parallel", "parallel", None),
        ("recursive", "recursive", None),
        (f"recursive, {vocabulary:,}", "recursive", vocabulary),
    ]
    for device in DEVICES:
        for name, form, size in forms:
            for drafts in range(1, len(acceptance) + 1):
                drafting = Drafting(acceptance=acceptance[:drafts], form=form, vocabulary=size)
                cells = (predict(MIMO_7B, device, drafting, Load(batch=b, context=context)).speedup for b in batches)
                yield f"{device.name:<10}{name:<24}{drafts:>2}" + "".join(f"{cell:>10.2f}x" for cell in cells)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--acceptance", type=float, nargs="+", required=True, help="by draft place, shares of the steps"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--vocabulary", type=int, default=32_000, help="size of the draft vocabulary in the table")
    parser.add_argument("--context", type=int, default=1024)
    options = parser.parse_args(arguments)
    print("\n".join(table(options.acceptance, options.batches, options.vocabulary, options.context)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
