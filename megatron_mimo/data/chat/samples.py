"""Tokenized samples on disk: tokens and loss mask of all samples behind each other, and where each begins.

PREFIX.tokens.bin   int32, every sample's tokens
PREFIX.loss.bin     uint8, 1 where a token is learned
PREFIX.offsets.npy  int64 [samples + 1]
PREFIX.source.npy   int32 [samples], number of the source
"""

from pathlib import Path

import numpy as np

from megatron_mimo.data.chat.template import EncodedSample


class SampleWriter:
    """Appends samples; the set is complete once `finish` has returned."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._tokens = Path(f"{prefix}.tokens.bin").open("wb")  # noqa: SIM115  # `finish` closes both
        self._loss = Path(f"{prefix}.loss.bin").open("wb")  # noqa: SIM115
        self._lengths: list[int] = []
        self._sources: list[int] = []

    def add(self, sample: EncodedSample, source: int) -> None:
        """Append one sample of source number `source`."""
        sample.tokens.astype(np.int32).tofile(self._tokens)
        sample.loss_mask.astype(np.uint8).tofile(self._loss)
        self._lengths.append(len(sample.tokens))
        self._sources.append(source)

    def finish(self) -> None:
        """Close the files and write the index."""
        self._tokens.close()
        self._loss.close()
        offsets = np.concatenate([[0], np.cumsum(np.array(self._lengths, dtype=np.int64))])
        np.save(f"{self._prefix}.offsets.npy", offsets)
        np.save(f"{self._prefix}.source.npy", np.array(self._sources, dtype=np.int32))


class SampleReader:
    """Random access to a finished set, memory-mapped."""

    def __init__(self, prefix: Path) -> None:
        self.offsets = np.load(f"{prefix}.offsets.npy", allow_pickle=False)
        self.sources = np.load(f"{prefix}.source.npy", allow_pickle=False)
        self.lengths = np.diff(self.offsets)
        """Tokens of each sample, int64."""
        count = int(self.offsets[-1])
        # An empty file cannot be mapped.
        self._tokens = np.memmap(f"{prefix}.tokens.bin", np.int32, "r") if count else np.zeros(0, np.int32)
        self._loss = np.memmap(f"{prefix}.loss.bin", np.uint8, "r") if count else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def learned_tokens(self) -> int:
        """Tokens of all samples that are in the loss."""
        return int(np.count_nonzero(self._loss))

    def __getitem__(self, index: int) -> EncodedSample:
        start, end = self.offsets[index], self.offsets[index + 1]
        return EncodedSample(np.asarray(self._tokens[start:end]), np.asarray(self._loss[start:end], dtype=bool))
