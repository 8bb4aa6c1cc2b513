"""An optional second judge of blocks: a small language model that reads a page's blocks in order and labels each.

Where the block model sees numbers, this one reads words: a block is a line with the names of its element and of the
two boxes around it, its share of links, and how its text begins and ends. The lines of a page, its title before them,
are one sequence (cut into windows where it is long); a linear head reads the causal Transformer's hidden state at the
last token of each line, so a verdict rests on the block and on all before it. Its logits are averaged with the block
model's. The body is the quality tagger's (`data.tag.language_model`): random weights, or any Qwen2 or MiMo folder.

Trained by `python -m megatron_mimo.data.extract.labeller_training`; used by the step's option `labeller: FOLDER`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from megatron_mimo.config import UserError
from megatron_mimo.data.extract.blocks import RUN, Block, Blocks, ancestors
from megatron_mimo.data.extract.head import Head
from megatron_mimo.data.extract.names import names_of
from megatron_mimo.data.tag.language_model import LanguageModelSettings, shape_settings
from megatron_mimo.data.tokens.tokenizer import load_tokenizer, save_tokenizer

_BOXES = 2
"""Boxes around a block whose names it sees."""
_MOST_NAMES = 8
_START_CHARACTERS = 100
_END_CHARACTERS = 40


@dataclass(kw_only=True)
class LabellerSettings(LanguageModelSettings):
    """As of the tagger; `max_tokens` is a window's length."""

    max_tokens: int = 1024
    epochs: int = 6
    batch_size: int = 8
    block_tokens: int = 48
    """Of a block's line; the rest is not looked at."""


@dataclass(frozen=True)
class BlockWindow:
    """A part of a page: its tokens, and for each block in it the place of its last token."""

    tokens: list[int]
    ends: list[int]


def block_lines(found: Blocks, head: Head) -> list[str]:
    """What the model reads: the page's title, then a line for every block."""
    return [head.title[:_START_CHARACTERS], *(_line(block, found) for block in found.blocks)]


def _line(block: Block, found: Blocks) -> str:
    boxes = [found.boxes[number].element for number in ancestors(found.boxes, block.box)][: _BOXES + 1]
    own = [] if block.element.tag == RUN or block.element is boxes[0] else [block.element]
    names = dict.fromkeys(name for element in [*own, *boxes[:_BOXES]] for name in names_of(element)[:_MOST_NAMES])
    links = round(9 * min(block.link_characters / max(len(block.text), 1), 1))
    text = block.text[:_START_CHARACTERS]
    if len(block.text) > _START_CHARACTERS:
        text += f" [{len(block.text)}] {block.text[-_END_CHARACTERS:]}"
    return f"\n{' '.join(names)} {links}: {text}"


def windows_of(rows: Sequence[list[int]], most_tokens: int) -> list[BlockWindow]:
    """The page's lines (the title's first) in windows of at most `most_tokens`, each beginning with the title."""
    title = rows[0][: most_tokens // 4]
    found = [BlockWindow(list(title), [])]
    for row in rows[1:]:
        row = row[: most_tokens - len(title)]
        if len(found[-1].tokens) + len(row) > most_tokens:
            found.append(BlockWindow(list(title), []))
        found[-1].tokens.extend(row)
        found[-1].ends.append(len(found[-1].tokens) - 1)
    return found


class BlockLabellerModel(nn.Module):
    """Body and head: `tokens` [windows, tokens] -> a logit for every block of the windows, in order."""

    def __init__(self, body: Qwen2Model) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.config.hidden_size, 1)

    def forward(self, windows: Sequence[BlockWindow]) -> Tensor:
        """[num_blocks] over all windows. Windows are padded on the right: attention is causal, so nothing sees it."""
        device = self.head.weight.device
        longest = max(len(window.tokens) for window in windows)
        padded = [window.tokens + [0] * (longest - len(window.tokens)) for window in windows]
        tokens = torch.tensor(padded, dtype=torch.long, device=device)
        hidden = self.body(input_ids=tokens, use_cache=False).last_hidden_state
        rows = [at for at, window in enumerate(windows) for _ in window.ends]
        ends = [end for window in windows for end in window.ends]
        return self.head(hidden[rows, ends])[:, 0]


class BlockLabeller:
    """Tokenizer and model; `Options.labeller` of `page` takes one."""

    def __init__(self, settings: LabellerSettings, tokenizer: Tokenizer, body: Qwen2Model) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.model = BlockLabellerModel(body)

    def to(self, device: str) -> Self:
        """Move the model."""
        self.model.to(device)
        return self

    def windows_of_lines(self, lines: Sequence[str]) -> list[BlockWindow]:
        """The page as the model reads it; `lines` are those of `block_lines`."""
        encodings = self.tokenizer.encode_batch(list(lines), add_special_tokens=False)
        rows = [encoding.ids[: self.settings.block_tokens] or [0] for encoding in encodings]
        return windows_of(rows, self.settings.max_tokens)

    def logits(self, found: Blocks, head: Head) -> np.ndarray:
        """[num_blocks]: above 0 where a block is rather matter than frame."""
        windows = [window for window in self.windows_of_lines(block_lines(found, head)) if window.ends]
        self.model.eval()
        with torch.inference_mode():
            parts = [self.model(windows[at : at + 4]).cpu().numpy() for at in range(0, len(windows), 4)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def save(self, folder: Path) -> None:
        """Write `labeller.json`, `labeller.safetensors` and the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(self.tokenizer, folder)
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "labeller.safetensors")
        description = {"settings": asdict(self.settings), "body": self.model.body.config.to_dict()}
        (folder / "labeller.json").write_text(json.dumps(description, default=str), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raises UserError where nothing of the kind is."""
        try:
            description = json.loads((folder / "labeller.json").read_text(encoding="utf-8"))
            body = Qwen2Model(Qwen2Config(**shape_settings(description["body"])))
            labeller = cls(LabellerSettings(**description["settings"]), load_tokenizer(folder), body)
            labeller.model.load_state_dict(load_file(folder / "labeller.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            way_out = f"train one with python -m {__package__}.labeller_training"
            raise UserError(f"no block labeller in {folder} ({error}): {way_out}") from error
        return labeller
