"""Samples per second of fine-tuning with packed rows, beside batches padded to their longest sample.

python benchmarks/sft_packing.py [--samples 400] [--seq-length 2048]

Lengths are log-normal, as those of conversations are: many short, a few that fill the row. Both sides train the nano
model (forward, backward, no update) on the same samples, one after the other in this process: packed rows as
`megatron_mimo.sft` makes them, one a micro-batch, and batches of 8 samples in random order, padded to the longest of
each (the collators of Transformers and TRL do that), or to the full row (static shapes).
"""

import argparse
import random
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.data.chat.dataset import PackedRows
from megatron_mimo.data.chat.packing import pack_best_fit
from megatron_mimo.data.chat.template import EncodedSample
from megatron_mimo.data.loading.loader import collate
from megatron_mimo.model.build import single_process_group
from megatron_mimo.training.batch import make_batch

BATCH_SAMPLES = 8
LONG_BATCHES = 4  # of those padded to the row: each takes as long as the other
PACKED = "packed"  # attention inside each sample alone, as rows of 32 768 tokens have it
NANO = ModelConfig(
    num_layers=4, hidden_size=256, ffn_hidden_size=640, num_attention_heads=4, num_query_groups=2, kv_channels=64,
    vocab_size=2048,
)  # fmt: skip


class Samples(list):
    """Stands for a SampleReader."""


def main() -> int:
    """Print the table; exit code 1 where packing gains less than 3x over static shapes, or fills less than 98 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seq-length", type=int, default=2048)
    args = parser.parse_args()
    samples = make_samples(args.samples, args.seq_length)
    with single_process_group():
        speeds = compare(samples, args.seq_length)
    tokens = sum(len(sample.tokens) for sample in samples)
    print(f"{len(samples)} samples of {tokens / len(samples):.0f} tokens on average, rows of {args.seq_length}")
    print(f"{'':<24}{'samples/s':>11}{'places filled':>15}{'packed is':>11}")
    for name, (speed, fill) in speeds.items():
        print(f"{name:<24}{speed:>11.1f}{fill:>15.1%}{speeds['packed'][0] / speed:>10.2f}x")
    lengths = [len(sample.tokens) for sample in make_samples(20_000, args.seq_length)]
    fill = sum(lengths) / (len(pack_best_fit(lengths, args.seq_length)) * args.seq_length)
    print(f"20,000 such samples fill their rows to {fill:.2%}")
    return 0 if fill >= 0.98 and speeds["packed"][0] >= 3 * speeds["padded to the row"][0] else 1


def compare(samples: Samples, seq_length: int) -> dict[str, tuple[float, float]]:
    """Samples per second and share of places filled, each way through the samples."""
    train = training_step(seq_length)
    rows = [np.array(row) for row in pack_best_fit([len(sample.tokens) for sample in samples], seq_length)]
    order = random.Random(0).sample(range(len(samples)), len(samples))
    batches = [np.array(order[start : start + BATCH_SAMPLES]) for start in range(0, len(order), BATCH_SAMPLES)]
    train(packed_row(samples, rows[0], seq_length), PACKED)  # the first call allocates
    return {
        "packed": measure(train, samples, rows, lambda row: packed_row(samples, row, seq_length), PACKED),
        "padded to the longest": measure(train, samples, batches, lambda batch: padded(samples, batch), "ignore"),
        "padded to the row": measure(
            train, samples, batches[:LONG_BATCHES], lambda batch: padded(samples, batch, seq_length), "ignore"
        ),
    }


def make_samples(count: int, longest: int) -> Samples:
    """Random tokens; median length 1/64 of the longest (512 of 32 768)."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(np.log(longest / 64), 1.5, count), 4, longest).astype(int)
    return Samples(EncodedSample(generator.integers(0, 2048, n).astype(np.int32), np.ones(n, bool)) for n in lengths)


def packed_row(samples: Samples, row: np.ndarray, seq_length: int) -> dict[str, torch.Tensor]:
    return collate([PackedRows(samples, [row], seq_length, pad_token_id=0)[0]])


def padded(samples: Samples, batch: np.ndarray, length: int | None = None) -> dict[str, torch.Tensor]:
    length = length or max(len(samples[number].tokens) for number in batch)
    return collate([PackedRows(samples, [np.array([number])], length, pad_token_id=0)[0] for number in batch])


def training_step(seq_length: int) -> Callable[[dict[str, torch.Tensor], str], int]:
    """A function that trains on one micro-batch and returns the number of its places."""
    from megatron_mimo.model import build
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.platform import cpu
    from megatron_mimo.training.distributed import seed_everything
    from megatron_mimo.training.loss import weighted_loss_sum

    cpu.install()
    cpu.keep_freed_memory()
    seed_everything(0)
    (chunk,) = build.build_model(NANO, ParallelConfig(), PrecisionConfig(dtype="bf16"), seq_length, 10_000)
    initialize_weights([chunk], NANO, seed=0)

    def train(rows: dict[str, torch.Tensor], attention: str) -> int:
        batch = make_batch(rows, NANO.mtp_num_layers, 0, attention)  # type: ignore[arg-type]
        losses = chunk(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels, batch.documents)
        weighted_loss_sum(losses, batch.loss_mask, 0.1).backward()
        chunk.zero_grad(set_to_none=False)
        return batch.tokens.numel()

    return train


def measure(
    train: Callable[[dict[str, torch.Tensor], str], int],
    samples: Samples,
    groups: list[np.ndarray],
    collate_group: Callable[[np.ndarray], dict[str, torch.Tensor]],
    attention: str,
) -> tuple[float, float]:
    """Samples per second and share of places filled over the groups, a micro-batch each."""
    started = time.perf_counter()
    places = sum(train(collate_group(group), attention) for group in groups)
    seconds = time.perf_counter() - started
    numbers = np.concatenate(groups)
    return len(numbers) / seconds, sum(len(samples[number].tokens) for number in numbers) / places


if __name__ == "__main__":
    sys.exit(main())
