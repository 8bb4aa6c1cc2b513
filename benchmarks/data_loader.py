"""Tokens/s of the data loader of one rank, beside its peers and beside what a training step consumes.

python benchmarks/data_loader.py --data runs/nano/data --mixture examples/nano/mixtures/stage1.yaml

Peers: a bare numpy memory map read at random offsets (no mixture, no epochs: an upper bound) and megatron-core's
GPTDataset (one source, its own index files), both through the same torch DataLoader without workers.
"""

import argparse
import itertools
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from megatron_mimo.config import DataConfig, UserError
from megatron_mimo.data.loading.datasets import build_stage_dataset
from megatron_mimo.data.loading.loader import build_loader
from megatron_mimo.data.tokens.manifest import open_split, read_manifest

NUM_SAMPLES = 400_000


class MemoryMap(Dataset):
    """Sequences of s + 1 tokens from random offsets of one `.bin` file."""

    def __init__(self, tokens: np.ndarray, seq_length: int) -> None:
        self._tokens, self._seq_length = tokens, seq_length
        self._starts = np.random.default_rng(0).integers(0, len(tokens) - seq_length - 1, NUM_SAMPLES)

    def __getitem__(self, index: int) -> np.ndarray:
        """Sequence `index`, int64 [s + 1]."""
        start = self._starts[index]
        return self._tokens[start : start + self._seq_length + 1].astype(np.int64)


def main() -> int:
    """Print the table; exit code 1 when the torch loader misses the bar."""
    args = _arguments()
    try:
        rows = list(_measure(args))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    step = args.step_tokens_per_second
    print(f"\nsequences of {args.seq_length}, batches of {args.batch_size}, one rank, {args.seconds} s a row")
    print(f"{'loader':<44} {'tokens/s':>12} {'x nano step':>12}")
    print(f"{'nano training step (given)':<44} {step:>12,.0f} {1:>12.0f}")
    for name, tokens_per_second in rows:
        print(f"{name:<44} {tokens_per_second:>12,.0f} {tokens_per_second / step:>12,.0f}")
    return 0 if rows[0][1] >= args.bar * step else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="runs/nano/data", help="data folder")
    parser.add_argument("--mixture", type=Path, default=Path("examples/nano/mixtures/stage1.yaml"))
    parser.add_argument("--seq-length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8, help="sequences a batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="time a row")
    parser.add_argument("--step-tokens-per-second", type=float, default=10_000, help="what a nano step consumes")
    parser.add_argument("--bar", type=float, default=20, help="exit code 1 below this multiple of the step")
    return parser.parse_args()


def _measure(args: argparse.Namespace) -> Iterator[tuple[str, float]]:
    def rate(batches: Iterable[Any]) -> float:
        return tokens_per_second(batches, args.batch_size * args.seq_length, args.seconds)

    settings: list[tuple[Literal["torch", "dali"], int]] = [("torch", 0), ("torch", 1), ("dali", 1)]
    for loader, num_workers in settings:
        data = DataConfig(path=args.data, tokenizer=f"{args.data}/tokenizer", loader=loader, num_workers=num_workers)
        dataset = build_stage_dataset(data, args.mixture, args.seq_length, NUM_SAMPLES, seed=0)
        name = f"megatron_mimo, {loader}, {num_workers} workers"
        try:
            yield name, rate(build_loader(dataset, _index_batches(args.batch_size), data))
        except UserError:
            print(f"{name}: not installed, left out")
    stream = open_split(args.data, next(iter(read_manifest(args.data).sources.values())), "train")
    yield "numpy memory map, random offsets", rate(_torch_loader(MemoryMap(stream.tokens, args.seq_length), args))
    with tempfile.TemporaryDirectory() as cache:
        yield "megatron-core GPTDataset, one source", rate(_torch_loader(_gpt_dataset(args, cache), args))


def _index_batches(batch_size: int) -> Iterator[list[int]]:
    return (list(range(start, start + batch_size)) for start in itertools.count(0, batch_size))


def _torch_loader(dataset: Dataset, args: argparse.Namespace) -> Iterable[Any]:
    batches = itertools.islice(_index_batches(args.batch_size), NUM_SAMPLES // args.batch_size)
    return DataLoader(dataset, batch_sampler=list(batches))


def _gpt_dataset(args: argparse.Namespace, cache: str) -> Dataset:
    warnings.filterwarnings("ignore")
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import Split

    manifest = read_manifest(args.data)
    entry = next(iter(manifest.sources.values())).train
    tokenizer: Any = SimpleNamespace(
        vocab_size=manifest.tokenizer.vocab_size, eod=manifest.tokenizer.eod_token_id, pad=-1, unique_identifiers={}
    )
    config = GPTDatasetConfig(
        random_seed=0,
        sequence_length=args.seq_length,
        blend=([entry.prefix], None),
        split="1,0,0",
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        tokenizer=tokenizer,
        path_to_cache=cache,
    )
    prefix = str(Path(args.data) / entry.prefix)
    documents = GPTDataset.build_low_level_dataset(prefix, config)
    indices = np.arange(entry.documents, dtype=np.int32)
    return GPTDataset(documents, prefix, indices, NUM_SAMPLES, Split.train, config)


def tokens_per_second(batches: Iterable[Any], tokens_per_batch: int, seconds: float) -> float:
    """Rate over `seconds`, the first ten batches (start-up) left out."""
    iterator = iter(batches)
    for _ in range(10):
        next(iterator)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        try:
            next(iterator)
        except StopIteration:
            break
        count += 1
    return count * tokens_per_batch / elapsed


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
