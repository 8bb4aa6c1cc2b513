"""What a run reads: here the tokenized sources and mixtures of pre-training; `data.chat` has that of fine-tuning."""

import math
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.config import ConfigError, ModelConfig, PretrainConfig
from megatron_mimo.data.loading.datasets import StageDataset, build_stage_dataset, build_validation_datasets
from megatron_mimo.data.loading.mixture import ROUNDED_PERIOD, read_mixture
from megatron_mimo.data.tokens.manifest import read_manifest

MANY_EPOCHS = 4
"""Up to here repeated text is worth nearly as much as new text (Muennighoff et al., 2023, section 5)."""


class StageSamples(Protocol):
    """A data set whose items are `tokens` int64 [s+1], `source` (index into `sources`), and for packed samples
    `segments` int64 [s+1] (which sample a token belongs to) and `loss_mask` bool [s+1] (tokens worth learning)."""

    sources: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class TrainingData(Protocol):
    """The samples of every stage, in an order that depends on nothing but the configuration."""

    sources: list[str]
    """Names of the sources, in the order of reports."""
    tokenizer_sha256: str
    vocab_size: int
    """Tokens of the tokenizer."""
    eod_token_id: int
    is_chat: bool
    """Whether the samples are conversations in the tokenizer's chat template."""

    @property
    def thinks(self) -> bool | None:
        """Whether the answers of conversations begin with a think block; None where there are none."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json records of the data."""
        ...

    def stage_order(self, stage: int) -> dict[str, Any]:
        """What decides, beside `facts`, seed and sequence length, which samples the stage has and in what order."""
        ...

    def stage_notes(self, stage: int, num_samples: int) -> list[str]:
        """What a reader should know of the stage's first `num_samples` samples before they are trained, a line each."""
        ...

    def stage_samples(self, stage: int, num_samples: int) -> StageSamples:
        """The first `num_samples` samples of stage number `stage`."""
        ...

    def held_out_samples(self, seq_length: int, sequences: int) -> dict[str, Any]:
        """Up to `sequences` held-out samples by source; their `source` counts in the order of `sources`."""
        ...


class PretrainingData:
    """TrainingData of a folder made by megatron-mimo data."""

    is_chat = False
    thinks: bool | None = None

    def __init__(self, config: PretrainConfig, config_folder: Path) -> None:
        """Mixture paths are relative to `config_folder`. Raises UserError without a sound data folder."""
        self._config, self._config_folder = config, config_folder
        self._manifest = read_manifest(config.data.path)
        self.sources = list(self._manifest.sources)
        tokenizer = self._manifest.tokenizer
        self.tokenizer_sha256, self.vocab_size = tokenizer.sha256, tokenizer.vocab_size
        self.eod_token_id = tokenizer.eod_token_id

    @property
    def facts(self) -> dict[str, Any]:
        """Domain, splits and checksums of every source."""
        return {name: source.facts for name, source in self._manifest.sources.items()}

    def stage_order(self, stage: int) -> dict[str, Any]:
        """Weights by source, as exact fractions. Raises UserError without a sound mixture file."""
        mixture = read_mixture(self._config_folder / self._config.stages[stage].mixture)
        return {name: str(weight) for name, weight in mixture.weights.items()}

    def stage_notes(self, stage: int, num_samples: int) -> list[str]:
        """Epochs by source, sources that are too small for their weight, and weights that had to be rounded."""
        config = self._config.stages[stage]
        epochs, notes = {}, []
        for name, count in self.stage_samples(stage, num_samples).source_counts(num_samples).items():
            tokens = self._manifest.sources[name].train.tokens
            epochs[name] = count * config.seq_length / tokens
            if tokens < config.seq_length:
                notes.append(
                    f"  {name} has {tokens:,} tokens: each of its samples repeats them up to"
                    f" {math.ceil(config.seq_length / tokens):,} times"
                )
            elif epochs[name] > MANY_EPOCHS:
                notes.append(f"  {name} is read {epochs[name]:,.1f} times: give it less weight, or more text")
            unended = self._manifest.sources[name].unended_documents
            if unended and self._config.data.intra_document_attention:
                notes.append(
                    f"  {name} has {unended:,} documents without EOD token: attention runs on into the next ones"
                )
        if read_mixture(self._config_folder / config.mixture).is_rounded:
            notes.append(f"  weights of {config.mixture} are rounded to {ROUNDED_PERIOD:,}ths")
        listed = ", ".join(f"{name} {value:,.2g}" for name, value in epochs.items())
        return [f"stage {config.name}: epochs by source: {listed}", *notes]

    def stage_samples(self, stage: int, num_samples: int) -> StageDataset:
        """Raises UserError when data, mixture and tokenizer do not fit together."""
        config = self._config.stages[stage]
        mixture = self._config_folder / config.mixture
        seed = self._config.seed + stage
        return build_stage_dataset(self._config.data, mixture, config.seq_length, num_samples, seed)

    def held_out_samples(self, seq_length: int, sequences: int) -> dict[str, Any]:
        """Raises UserError where a held-out split is shorter than one sequence."""
        return build_validation_datasets(self._config.data, seq_length, sequences)


def check_vocabulary(model: ModelConfig, data: TrainingData) -> None:
    """Raise ConfigError when the data holds token ids that the embedding has no row for."""
    if model.vocab_size < data.vocab_size:
        raise ConfigError(
            "model.vocab_size",
            model.vocab_size,
            f"the data's tokenizer has {data.vocab_size} tokens; make it at least that",
        )
