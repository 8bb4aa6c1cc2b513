"""The language-model tagger: heads on a small Transformer of MiMo's shape (Qwen2 without its output head), fine-tuned.

The body comes from a Hugging Face export of this project (its main model; MTP layers are left out), from any Qwen2
folder, or from random weights. Its causal attention stays; the heads read the mean of the last hidden states, so every
token counts whatever the length. Saved as safetensors, JSON and `tokenizer.json`.

Shapes: `b`atch, `s`equence, `h`idden, `o`utputs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from megatron_mimo.config import UserError
from megatron_mimo.data.tag.heads import NUM_OUTPUTS, heads_loss, targets, to_tags
from megatron_mimo.data.tag.labelled import LabelledPage
from megatron_mimo.data.tag.schema import Tags
from megatron_mimo.data.tokens.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer


@dataclass(kw_only=True)
class LanguageModelSettings:
    """Size of a body made here, and how a tagger is fine-tuned."""

    vocab_size: int = 4096
    hidden_size: int = 128
    ffn_hidden_size: int = 344
    num_layers: int = 2
    num_attention_heads: int = 4
    num_query_groups: int = 2
    max_tokens: int = 256
    """Of a page; the rest is not looked at."""
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-3
    """For a body with random weights; 1e-4 suits a trained one."""
    weight_decay: float = 0.1
    token_dropout: float = 0.15
    """Share of tokens replaced by random ones in training."""
    seed: int = 0


class _Model(nn.Module):
    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.body = Qwen2Model(config)
        self.head = nn.Linear(config.hidden_size, NUM_OUTPUTS)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens [b, s], padded on the right to the longest; lengths [b] -> outputs [b, o]."""
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        hidden = self.body(input_ids=tokens, attention_mask=real.long(), use_cache=False).last_hidden_state
        return self.head((hidden * real[..., None]).sum(1) / lengths[:, None].clamp(min=1))


class LanguageModelTagger:
    """Tokenizer, body and heads; works on whatever device `to` put it."""

    kind = "language_model"

    def __init__(self, settings: LanguageModelSettings, tokenizer: Tokenizer, config: Qwen2Config) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self._model = _Model(config)

    def to(self, device: str) -> Self:
        """Move the model."""
        self._model.to(device)
        return self

    def tag(self, texts: Sequence[str]) -> list[Tags]:
        """Tags of a batch of texts; texts of like length are scored together."""
        rows = self._encode(texts)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: dict[int, Tags] = {}
        self._model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), self.settings.batch_size):
                part = order[start : start + self.settings.batch_size]
                found |= zip(part, to_tags(self._model(*self._batch([rows[i] for i in part]))), strict=True)
        return [found[i] for i in range(len(rows))]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # A page of many characters a token would still fill max_tokens: no need to read on.
        cut = [text[: 12 * self.settings.max_tokens] for text in texts]
        encodings = self.tokenizer.encode_batch(cut, add_special_tokens=False)
        return [encoding.ids[: self.settings.max_tokens] or [0] for encoding in encodings]

    def _batch(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Padded tokens [b, s] and lengths [b] on the model's device."""
        device = self._model.head.weight.device
        lengths = torch.tensor([len(row) for row in rows])
        tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens.to(device), lengths.to(device)

    @classmethod
    def train(
        cls,
        pages: Sequence[LabelledPage],
        settings: LanguageModelSettings,
        initial: Path | None = None,
        device: str = "cpu",
    ) -> Self:
        """Fine-tune on labelled pages, from the Hugging Face folder `initial` or from random weights."""
        torch.manual_seed(settings.seed)
        tagger = cls._from_folder(initial, settings) if initial else cls._new(pages, settings)
        tagger.to(device)
        generator = np.random.default_rng(settings.seed)
        rows, wanted = tagger._encode([page.text for page in pages]), targets([page.tags for page in pages])
        model = tagger._model
        optimizer = torch.optim.AdamW(
            model.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
        )
        num_steps = settings.epochs * -(-len(pages) // settings.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, num_steps, pct_start=0.1)
        model.train()
        for _ in range(settings.epochs):
            for batch in _batches(rows, settings.batch_size, generator):
                tokens, lengths = tagger._batch([rows[i] for i in batch])
                hidden = torch.rand(tokens.shape, device=tokens.device) < settings.token_dropout
                tokens = torch.where(hidden, torch.randint_like(tokens, tagger.tokenizer.get_vocab_size()), tokens)
                loss = heads_loss(model(tokens, lengths), [target[batch].to(device) for target in wanted])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        return tagger

    @classmethod
    def _new(cls, pages: Sequence[LabelledPage], settings: LanguageModelSettings) -> Self:
        """Random weights, and a tokenizer learned on the pages."""
        tokenizer = train_tokenizer((page.text for page in pages), settings.vocab_size)
        return cls(settings, tokenizer, body_config(settings))

    @classmethod
    def _from_folder(cls, folder: Path, settings: LanguageModelSettings) -> Self:
        """The main model of a Hugging Face folder; raises UserError for what is none."""
        tokenizer, body = read_body(folder)
        tagger = cls(settings, tokenizer, body.config)
        tagger._model.body = body
        return tagger

    def save(self, folder: Path) -> None:
        """Write `tagger.json`, `tagger.safetensors` and the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(self.tokenizer, folder)
        save_file(
            {name: tensor.contiguous() for name, tensor in self._model.state_dict().items()},
            folder / "tagger.safetensors",
        )
        description = {
            "kind": self.kind,
            "settings": {"tagger": asdict(self.settings), "body": self._model.body.config.to_dict()},
        }
        (folder / "tagger.json").write_text(json.dumps(description, default=str))

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """Read what `save` wrote; `settings` is its `tagger.json`."""
        config = Qwen2Config(**shape_settings(settings["body"]))
        tagger = cls(LanguageModelSettings(**settings["tagger"]), load_tokenizer(folder), config)
        tagger._model.load_state_dict(load_file(folder / "tagger.safetensors"))
        return tagger


_SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "rms_norm_eps", "rope_theta", "rope_parameters", "max_position_embeddings",
)  # fmt: skip


def shape_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What of a `config.json` shapes the body."""
    return {name: config[name] for name in _SHAPE if config.get(name) is not None}


def body_config(settings: LanguageModelSettings) -> Qwen2Config:
    """The shape of a body made here."""
    return Qwen2Config(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.ffn_hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_attention_heads,
        num_key_value_heads=settings.num_query_groups,
        max_position_embeddings=settings.max_tokens,
    )


def read_body(folder: Path) -> tuple[Tokenizer, Qwen2Model]:
    """Tokenizer and main model of a Hugging Face folder; raises UserError for what is no MiMo or Qwen2 model."""
    try:
        config = Qwen2Config(**shape_settings(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
        files = sorted(folder.glob("*.safetensors"))
        tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
        body = Qwen2Model(config)
        body.load_state_dict(
            {
                name.removeprefix("model."): tensor.float()
                for name, tensor in tensors.items()
                if name.startswith("model.") and not name.startswith("model.mtp_layers.")
            }
        )
        return load_tokenizer(folder), body
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{folder} is not a Hugging Face folder of a MiMo or Qwen2 model: {error}") from error


def _batches(rows: list[list[int]], batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Random batches whose rows are of like length."""
    order = sorted(generator.permutation(len(rows)), key=lambda i: len(rows[i]) // 32)
    batches = [np.array(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    for i in generator.permutation(len(batches)):
        yield batches[i]
