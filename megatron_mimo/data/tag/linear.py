"""The linear tagger: one matrix on hashed n-grams and surface measures, for all heads at once.

Heads: softmax over the domains, squared error on the scores, logistic regression on the kinds. Saved as safetensors
and JSON. The baseline of the language-model tagger, and the one to use where a core must tag megabytes a second.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from megatron_mimo.data.tag.features import SURFACE_NAMES, FeatureHasher
from megatron_mimo.data.tag.heads import NUM_OUTPUTS, heads_loss, targets, to_tags
from megatron_mimo.data.tag.labelled import LabelledPage
from megatron_mimo.data.tag.schema import Tags


@dataclass(kw_only=True)
class LinearSettings:
    """Size of the tagger and how it is trained."""

    hash_bits: int = 17
    max_characters: int = 8192
    """Of a page; the rest is not looked at."""
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 0.02
    weight_decay: float = 1e-5
    feature_dropout: float = 0.6
    """Share of a page's features hidden at each step: no single word may decide."""
    seed: int = 0


class LinearTagger:
    """Weights [2**hash_bits, o] on n-grams, [m, o] on surface measures, bias [o]."""

    kind = "linear"

    def __init__(self, settings: LinearSettings) -> None:
        self.settings = settings
        self._hasher = FeatureHasher(settings.hash_bits, settings.max_characters)
        self._ngrams = nn.EmbeddingBag(2**settings.hash_bits, NUM_OUTPUTS, mode="sum")
        nn.init.zeros_(self._ngrams.weight)
        self._surface = nn.Linear(len(SURFACE_NAMES), NUM_OUTPUTS)
        self._mean, self._deviation = torch.zeros(len(SURFACE_NAMES)), torch.ones(len(SURFACE_NAMES))

    def tag(self, texts: Sequence[str]) -> list[Tags]:
        """Tags of a batch of texts."""
        with torch.inference_mode():
            rows = [self._hasher.ngrams(text) for text in texts]
            surface = torch.from_numpy(np.stack([self._hasher.surface(text) for text in texts])) if texts else None
            return [] if surface is None else to_tags(self._outputs(rows, surface))

    def _outputs(self, rows: Sequence[tuple[np.ndarray, np.ndarray]], surface: Tensor) -> Tensor:
        """Raw outputs [b, o]."""
        columns = torch.from_numpy(np.concatenate([columns for columns, _ in rows]))
        values = torch.from_numpy(np.concatenate([values for _, values in rows]))
        offsets = torch.tensor([0, *np.cumsum([len(columns) for columns, _ in rows])[:-1]])
        measures = ((surface - self._mean) / self._deviation).clamp(-4, 4)
        return self._ngrams(columns, offsets, per_sample_weights=values) + self._surface(measures)

    @classmethod
    def train(cls, pages: Sequence[LabelledPage], settings: LinearSettings) -> Self:
        """Fit on labelled pages; the same pages and seed give the same tagger."""
        torch.manual_seed(settings.seed)
        tagger, generator = cls(settings), np.random.default_rng(settings.seed)
        rows = [tagger._hasher.ngrams(page.text) for page in pages]
        surface = torch.from_numpy(np.stack([tagger._hasher.surface(page.text) for page in pages]))
        tagger._mean, tagger._deviation = surface.mean(0), surface.std(0) + 1e-3
        wanted = targets([page.tags for page in pages])
        parameters = [*tagger._ngrams.parameters(), *tagger._surface.parameters()]
        optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        num_steps = settings.epochs * -(-len(pages) // settings.batch_size)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, num_steps)
        for _ in range(settings.epochs):
            for batch in np.array_split(generator.permutation(len(pages)), -(-len(pages) // settings.batch_size)):
                thinned = [_drop(rows[i], settings.feature_dropout, generator) for i in batch]
                measures = F.dropout(surface[batch], settings.feature_dropout / 4)
                loss = heads_loss(tagger._outputs(thinned, measures), [target[batch] for target in wanted])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        return tagger

    def save(self, folder: Path) -> None:
        """Write `tagger.json` and `tagger.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"surface.{name}": tensor.contiguous() for name, tensor in self._surface.state_dict().items()}
        tensors |= {"ngrams": self._ngrams.weight.detach().half(), "mean": self._mean, "deviation": self._deviation}
        save_file(tensors, folder / "tagger.safetensors")
        (folder / "tagger.json").write_text(json.dumps({"kind": self.kind, "settings": asdict(self.settings)}))

    @classmethod
    def load(cls, folder: Path, settings: dict[str, float]) -> Self:
        """Read what `save` wrote; `settings` is its `tagger.json`."""
        tagger = cls(LinearSettings(**settings))  # type: ignore[arg-type]
        tensors = load_file(folder / "tagger.safetensors")
        tagger._ngrams.weight.data = tensors["ngrams"].float()
        tagger._surface.load_state_dict({name: tensors[f"surface.{name}"] for name in ("weight", "bias")})
        tagger._mean, tagger._deviation = tensors["mean"], tensors["deviation"]
        return tagger


def _drop(
    row: tuple[np.ndarray, np.ndarray], share: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random part of a row, its length restored."""
    columns, values = row
    kept = generator.random(len(columns)) >= share
    return columns[kept], values[kept] / np.float32(max((1 - share) ** 0.5, 1e-3))
