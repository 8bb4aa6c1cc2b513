"""Train the language model that labels blocks (`block_labeller`) on pages whose main text is known.

    python -m megatron_mimo.data.extract.labeller_training FOLDER ... --output FOLDER
        [--initial HF_FOLDER] [--epochs 6] [--device cuda] [--holdout 5]

Pages are read as `block_training` reads them. With `--initial` the body is a Hugging Face folder of this project's or
of a Qwen2 model, else it starts at random with a tokenizer learned on the pages. `--holdout N` leaves every N-th site
out and prints the extractor's scores on those: without the labeller, and with it.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megatron_mimo.config import UserError
from megatron_mimo.data.extract.block_labeller import BlockLabeller, BlockWindow, LabellerSettings, block_lines
from megatron_mimo.data.extract.block_training import blocks_of, fold_of, labels_of, site_of
from megatron_mimo.data.extract.page import Options, Page, read_page
from megatron_mimo.data.extract.text_scores import Score, read_records, score_text, summary
from megatron_mimo.data.tag.language_model import body_config, read_body
from megatron_mimo.data.tokens.tokenizer import train_tokenizer

TRAINED_BODY_RATE = 1e-4


@dataclass
class LabelledLines:
    """A page: what the model reads of it, and what of it is known."""

    record: dict[str, Any]
    lines: list[str]
    labels: np.ndarray
    weights: np.ndarray


@dataclass
class LabelledWindow:
    """A window with labels (NaN where none is known) and weights of its blocks."""

    window: BlockWindow
    labels: np.ndarray
    weights: np.ndarray


def labelled_lines(record: dict[str, Any]) -> LabelledLines | None:
    """The page's lines and labels; None for an empty page."""
    opened = blocks_of(record["html"])
    if opened is None:
        return None
    found, head = opened
    return LabelledLines(record, block_lines(found, head), *labels_of(record, found.blocks))


def examples_of(labeller: BlockLabeller, pages: list[LabelledLines]) -> list[LabelledWindow]:
    """The pages' windows in which something is known."""
    examples = []
    for page in pages:
        start = 0
        for window in labeller.windows_of_lines(page.lines):
            part = slice(start, start + len(window.ends))
            start = part.stop
            if window.ends and not np.isnan(page.labels[part]).all():
                examples.append(LabelledWindow(window, page.labels[part], page.weights[part]))
    return examples


def train(
    pages: list[LabelledLines], settings: LabellerSettings, initial: Path | None = None, device: str = "cpu"
) -> BlockLabeller:
    """The labeller of these pages, from the Hugging Face folder `initial` or from random weights."""
    torch.manual_seed(settings.seed)
    labeller = _new(pages, settings, initial).to(device)
    examples, model = examples_of(labeller, pages), labeller.model
    generator = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    num_steps = settings.epochs * -(-len(examples) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, num_steps, pct_start=0.1)
    model.train()
    for _ in range(settings.epochs):
        order = generator.permutation(len(examples))
        for at in range(0, len(order), settings.batch_size):
            loss = _loss(labeller, [examples[place] for place in order[at : at + settings.batch_size]], generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return labeller


def _new(pages: list[LabelledLines], settings: LabellerSettings, initial: Path | None) -> BlockLabeller:
    if initial is not None:
        return BlockLabeller(settings, *read_body(initial))
    from transformers import Qwen2Model

    tokenizer = train_tokenizer(("".join(page.lines) for page in pages), settings.vocab_size)
    return BlockLabeller(settings, tokenizer, Qwen2Model(body_config(settings)))


def _loss(labeller: BlockLabeller, batch: list[LabelledWindow], generator: np.random.Generator) -> torch.Tensor:
    """Weighted cross-entropy of the known blocks; a share of the tokens is replaced by random ones."""
    windows = [_noisy(example.window, labeller, generator) for example in batch]
    logits = labeller.model(windows)
    labels = np.concatenate([example.labels for example in batch])
    weights = np.where(np.isnan(labels), 0, np.concatenate([example.weights for example in batch]))
    known = torch.tensor(np.nan_to_num(labels), dtype=torch.float32, device=logits.device)
    weight = torch.tensor(weights, dtype=torch.float32, device=logits.device)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, known, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1e-6)


def _noisy(window: BlockWindow, labeller: BlockLabeller, generator: np.random.Generator) -> BlockWindow:
    tokens = np.array(window.tokens)
    is_hidden = generator.random(len(tokens)) < labeller.settings.token_dropout
    tokens[is_hidden] = generator.integers(labeller.tokenizer.get_vocab_size(), size=int(is_hidden.sum()))
    return BlockWindow(tokens.tolist(), window.ends)


def report(pages: list[LabelledLines], labeller: BlockLabeller) -> None:
    """Print the extractor's scores on every set, without the labeller and with it."""
    for title, options in (("without", Options()), ("with", Options(labeller=labeller))):
        scores: dict[str, list[Score]] = defaultdict(list)
        for page in pages:
            text = read_page(page.record["html"], Page(options)).text
            scores[str(page.record.get("set", "pages"))].append(score_text(page.record, text))
        for name, found in sorted(scores.items()):
            print(f"{name:16} {title:8} {summary(found)}")


def main(argv: list[str] | None = None) -> None:
    """Read pages, train, save, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pages with their truth")
    parser.add_argument("--output", type=Path, required=True, help="folder of the labeller")
    parser.add_argument("--initial", type=Path, help="Hugging Face folder that the model starts from")
    parser.add_argument("--epochs", type=int, default=LabellerSettings.epochs)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--holdout", type=int, default=0, help="leave every N-th site out and print its scores")
    arguments = parser.parse_args(argv)
    made = (labelled_lines(record) for folder in arguments.folders for record in read_records(folder))
    pages = [page for page in made if page is not None]
    if not pages:
        shown = ", ".join(map(str, arguments.folders))
        raise UserError(f"{shown}: no pages there (*.jsonl, *.jsonl.zst, or *.yaml beside *.html)")
    settings = LabellerSettings(epochs=arguments.epochs)
    if arguments.initial:
        settings.learning_rate = TRAINED_BODY_RATE
    folds = [fold_of(site_of(page.record), max(arguments.holdout, 1)) for page in pages]
    is_held = [bool(arguments.holdout) and fold == 0 for fold in folds]
    training = [page for page, held in zip(pages, is_held, strict=True) if not held]
    labeller = train(training, settings, arguments.initial, arguments.device)
    report([page for page, held in zip(pages, is_held, strict=True) if held], labeller)
    labeller.to("cpu").save(arguments.output)
    print(f"{arguments.output}: block labeller of {len(training):,} pages", file=sys.stderr)


if __name__ == "__main__":
    main()
