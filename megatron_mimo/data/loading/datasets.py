"""Samples of a stage in one global order, and of the held-out sources in stored order.

A source is one circular stream of tokens. An epoch over it starts at a random token, cuts the stream into sequences
and visits them in random order; every token is read once per epoch (less than one sequence is left over). Sample i is
computed from (seed, mixture, i) alone: nothing is built at start, nothing depends on ranks, workers or on how many
samples are asked for. `s` = sequence length.
"""

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from megatron_mimo.config import DataConfig, UserError
from megatron_mimo.data.loading.mixture import Turns, read_mixture
from megatron_mimo.data.loading.permutation import Permutation
from megatron_mimo.data.tokens.indexed import TokenStream
from megatron_mimo.data.tokens.manifest import check_tokenizer, open_split, read_manifest

Sample = dict[str, Any]
"""`tokens`: int64 [s + 1] (inputs and shifted labels overlap), `source`: index into the data set's `sources`."""


class ShuffledSource:
    """Endless samples of s + 1 tokens from one source, epoch after epoch."""

    def __init__(self, stream: TokenStream, seq_length: int, key: str) -> None:
        self._stream, self._seq_length, self._key = stream, seq_length, key
        self.samples_per_epoch = max(1, len(stream) // seq_length)
        self._epoch = functools.lru_cache(maxsize=4)(self._draw_epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = functools.lru_cache(maxsize=4)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> tuple[int, Permutation]:
        key = f"{self._key}/{epoch}"
        return random.Random(key).randrange(len(self._stream)), Permutation(self.samples_per_epoch, key)

    def __getitem__(self, position: int) -> np.ndarray:
        """Tokens of the source's sample number `position` (0, 1, ... without end), int64 [s + 1]."""
        epoch, place = divmod(position, self.samples_per_epoch)
        start, order = self._epoch(epoch)
        return self._stream.read(start + order[place] * self._seq_length, self._seq_length + 1)


class StageDataset(Dataset):
    """The samples of one stage in their global order."""

    def __init__(self, sources: dict[str, ShuffledSource], turns: Turns, num_samples: int, eod_token_id: int) -> None:
        self.sources = list(sources)
        self.eod_token_id = eod_token_id
        self._readers = list(sources.values())
        self._turns = turns
        self._num_samples = num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` of the global order; raises IndexError outside `range(len(self))`."""
        if not 0 <= index < self._num_samples:
            raise IndexError(f"sample {index} of a stage of {self._num_samples}")
        source, position = self._turns[index]
        return {"tokens": self._readers[source][position], "source": source}

    def source_counts(self, num_samples: int) -> dict[str, int]:
        """Exact number of samples by source among the first `num_samples`."""
        return {name: int(count) for name, count in zip(self.sources, self._turns.counts(num_samples), strict=True)}


class ValidationDataset(Dataset):
    """The first sequences of one source's held-out split, in stored order; items as in `StageDataset`."""

    def __init__(self, stream: TokenStream, source: int, seq_length: int, sequences: int) -> None:
        self._stream, self._source, self._seq_length = stream, source, seq_length
        self._num_samples = min(sequences, (len(stream) - 1) // seq_length)

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> Sample:
        """Sequence `index`; raises IndexError outside `range(len(self))`."""
        if not 0 <= index < self._num_samples:
            raise IndexError(index)
        return {"tokens": self._stream.read(index * self._seq_length, self._seq_length + 1), "source": self._source}


def build_stage_dataset(
    data: DataConfig, mixture_path: Path, seq_length: int, num_samples: int, seed: int, verify: bool = False
) -> StageDataset:
    """The stage's samples; give every stage its own seed, or it repeats the order of the one before.

    Files up to 64 MiB always have their checksums compared, larger ones with `verify`. Raises UserError when data,
    mixture and tokenizer do not fit together, or a file is missing or damaged.
    """
    manifest = read_manifest(data.path)
    check_tokenizer(manifest, data.path, data.tokenizer)
    mixture = read_mixture(mixture_path)
    sources = {
        name: ShuffledSource(
            open_split(data.path, manifest.source(name, str(mixture_path)), "train", verify),
            seq_length,
            f"{seed}/{name}",
        )
        for name in mixture.weights
    }
    return StageDataset(sources, Turns(mixture), num_samples, manifest.tokenizer.eod_token_id)


def build_validation_datasets(data: DataConfig, seq_length: int, sequences: int) -> dict[str, ValidationDataset]:
    """Up to `sequences` held-out sequences of every source of the data folder; `source` counts in manifest order.

    Raises UserError as `build_stage_dataset`, and when a held-out split is shorter than one sequence.
    """
    manifest = read_manifest(data.path)
    check_tokenizer(manifest, data.path, data.tokenizer)
    datasets = {}
    for number, (name, entry) in enumerate(manifest.sources.items()):
        if entry.valid.tokens <= seq_length:
            raise UserError(
                f"{data.path}: the held-out split of source {name!r} has {entry.valid.tokens} tokens, fewer than one"
                f" sequence of {seq_length} + 1: raise its valid_share, or set evaluation.sequences=0"
            )
        datasets[name] = ValidationDataset(open_split(data.path, entry, "valid"), number, seq_length, sequences)
    return datasets
