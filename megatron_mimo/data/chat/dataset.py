"""Packed rows of chat data for the trainer. `s` = sequence length."""

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from megatron_mimo.data.chat.packing import pack_best_fit
from megatron_mimo.data.chat.prepare import read_chat_manifest
from megatron_mimo.data.chat.samples import SampleReader

CHAT = "chat"
PADDING_SEGMENT = -1


class PackedRows(Dataset):
    """Rows of whole samples, filled up with padding that nothing is learned from.

    Items: `tokens` int64 [s+1], `segments` int64 [s+1] (number of the sample in its row, -1 for padding), `loss_mask`
    bool [s+1], `source` 0. Row indices beyond the last give rows of padding: the last step's batch is filled with them.
    """

    def __init__(self, samples: SampleReader, rows: list[np.ndarray], seq_length: int, pad_token_id: int) -> None:
        self.sources = [CHAT]
        self._samples, self._rows = samples, rows
        self._seq_length, self._pad_token_id = seq_length, pad_token_id

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = np.full(self._seq_length + 1, self._pad_token_id, dtype=np.int64)
        segments = np.full(self._seq_length + 1, PADDING_SEGMENT, dtype=np.int64)
        loss_mask = np.zeros(self._seq_length + 1, dtype=bool)
        start = 0
        for segment, number in enumerate(self._rows[index] if index < len(self._rows) else ()):
            sample = self._samples[int(number)]
            end = start + len(sample.tokens)
            tokens[start:end], segments[start:end], loss_mask[start:end] = sample.tokens, segment, sample.loss_mask
            start = end
        return {"tokens": tokens, "segments": segments, "loss_mask": loss_mask, "source": 0}


class ChatData:
    """TrainingData of a folder made by `prepare_chat_data`."""

    is_chat = True

    def __init__(self, folder: str | Path, seq_length: int) -> None:
        self._folder, self._seq_length = Path(folder), seq_length
        self._manifest = read_chat_manifest(self._folder)
        self.sources = [CHAT]
        self.tokenizer_sha256, self.vocab_size = self._manifest.tokenizer_sha256, self._manifest.vocab_size
        self.eod_token_id = self._manifest.eod_token_id

    @property
    def thinks(self) -> bool:
        """Whether most of its answers begin with a think block."""
        counts = self._manifest.sources.values()
        samples = sum(source.train_samples + source.valid_samples for source in counts)
        return 2 * sum(source.thinking for source in counts) > samples

    @property
    def facts(self) -> dict[str, Any]:
        """By file: samples of both splits; tokens are known of all files together."""
        manifest = self._manifest
        samples = sum(source.train_samples for source in manifest.sources.values())
        train = {"documents": samples, "tokens": manifest.train_tokens, "learned_tokens": manifest.learned_tokens}
        return {CHAT: {"domain": CHAT, "train": train, "fill": manifest.fill}}

    def stage_order(self, stage: int) -> dict[str, Any]:
        """Nothing that `facts` does not tell."""
        return {}

    def stage_notes(self, stage: int, num_samples: int) -> list[str]:
        """Nothing that preparing the data has not said."""
        return []

    def stage_samples(self, stage: int, num_samples: int) -> PackedRows:
        """The rows of all epochs; `num_samples` may ask for some more, which are padding."""
        flat = np.load(self._folder / "rows.npy", allow_pickle=False)
        offsets = np.load(self._folder / "row_offsets.npy", allow_pickle=False)
        rows = np.split(flat, offsets[1:-1])
        return PackedRows(SampleReader(self._folder / "train"), rows, self._seq_length, self.eod_token_id)

    def held_out_samples(self, seq_length: int, sequences: int) -> dict[str, PackedRows]:
        """The held-out conversations, packed; empty where none is held out."""
        samples = SampleReader(self._folder / "valid")
        rows = [np.array(row) for row in pack_best_fit(samples.lengths.tolist(), seq_length)[:sequences]]
        return {CHAT: PackedRows(samples, rows, seq_length, self.eod_token_id)} if rows else {}
