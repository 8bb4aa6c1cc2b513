"""Train the block model on pages whose main text is known.

    python -m megatron_mimo.data.extract.block_training FOLDER ... [--output FILE] [--folds 5] [--report]

A FOLDER holds files `*.jsonl.zst` or `.jsonl` with a page per line: `id`, `url`, `html` or `html_base64`, and its
truth: `truth`, the main text, or `with` and `without`, sentences that belong to it and that do not. Pages as in
tests/pages (NAME.html and NAME.yaml) are read as well. With `--report` a model is trained for every fold of sites, the
extractor reads the sites that this model has not seen with it, and the scores of `text_scores` are printed. Needs no
GPU: minutes on one core for a thousand pages.

The weights of names are counts: how much of what stands in elements of this name is matter, on pages of other sites
than the one whose features they become. Otherwise the model would trust them more than it may on new sites.
"""

import argparse
import hashlib
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from megatron_mimo.config import UserError
from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.block_features import COLUMNS, assemble, static_rows
from megatron_mimo.data.extract.block_labels import labels_of_sentences, labels_of_text
from megatron_mimo.data.extract.block_model import LIMIT, MODEL_FILE, WINDOW, BlockModel, window_places, write_model
from megatron_mimo.data.extract.block_names import NameWeights, PageNames, name_rows
from megatron_mimo.data.extract.blocks import Block, Blocks, find_blocks
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.frame_names import FRAME_NAMES
from megatron_mimo.data.extract.head import Head, read_head
from megatron_mimo.data.extract.page import Options, Page, read_page
from megatron_mimo.data.extract.text_scores import Score, read_records, score_text, summary

_HIDDEN = 40
_SHARED = 8
"""Numbers of a block that its neighbours see."""
_DROPOUT = 0.3
_EPOCHS = 14
_BATCH_PAGES = 24
_RATE = 4e-3
_DECAY = 0.02
_NETWORKS = 4
"""Networks of a model, trained from different random starts."""
_NAMELESS = 0.1
"""Share of the pages of a batch whose names are hidden: on many sites they say nothing."""
_NAME_PLACES = [at for at, column in enumerate(COLUMNS) if column.startswith("name")]
_PRIOR_SHARE = 0.35
_PRIOR_PAGES = 2.0
_LEAST_SITES = 3
_LARGEST_NAME_WEIGHT = 4.0
_LEAST_NAME_WEIGHT = 0.3
_KNOWN_WEIGHT = -1.5
"""Of a name that style sheets in every language call frame, where too few training sites use it."""
_SECOND_LEVELS = frozenset(("co", "com", "org", "net", "ac", "gov", "edu"))


@dataclass
class Example:
    """A page as the training sees it."""

    record: dict[str, Any]
    fold: int
    site: str
    static: np.ndarray
    names: PageNames
    labels: np.ndarray
    """NaN where nothing is known."""
    weights: np.ndarray


def site_of(record: dict[str, Any]) -> str:
    """The registered domain of a page's address, or its id where the host says nothing."""
    parts = (urlsplit(record.get("url", "")).hostname or "").split(".")
    if len(parts) < 2:
        return str(record["id"])
    return ".".join(parts[-3:] if len(parts) > 2 and parts[-2] in _SECOND_LEVELS else parts[-2:])


def blocks_of(html: str) -> tuple[Blocks, Head] | None:
    """A page's blocks, and what it says of itself; None for an empty page."""
    root = parse(html)
    if root is None:
        return None
    head = read_head(root)
    body = root.find("body")
    body = root if body is None else body
    mark_atoms(body)
    found = find_blocks(body)
    return (found, head) if found.blocks else None


def labels_of(record: dict[str, Any], blocks: list[Block]) -> tuple[np.ndarray, np.ndarray]:
    """(labels, weights), both [num_blocks], by the truth that the record holds; a label is NaN where none is known."""
    if "truth" in record:
        return labels_of_text(blocks, record["truth"])
    return labels_of_sentences(blocks, record["with"], record["without"])


def fold_of(site: str, num_folds: int) -> int:
    """The part that a site belongs to."""
    return int(hashlib.sha256(site.encode()).hexdigest(), 16) % num_folds


def example_of(record: dict[str, Any], num_folds: int) -> Example | None:
    """The page's numbers and labels; None for an empty page."""
    opened = blocks_of(record["html"])
    if opened is None:
        return None
    found, head = opened
    labels, weights = labels_of(record, found.blocks)
    site = site_of(record)
    fold = fold_of(site, num_folds)
    return Example(record, fold, site, static_rows(found, head), PageNames.of(found), labels, weights)


def learn_names(examples: list[Example]) -> NameWeights:
    """Log odds of matter for every word of names that enough sites use."""
    matter: Counter[str] = Counter()
    frame: Counter[str] = Counter()
    sites: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        for name, share in _shares(example).items():
            matter[name] += share  # type: ignore[assignment]
            frame[name] += 1 - share  # type: ignore[assignment]
            sites[name].add(example.site)
    prior = np.log(_PRIOR_SHARE / (1 - _PRIOR_SHARE))
    found = dict.fromkeys(FRAME_NAMES, _KNOWN_WEIGHT)
    for name in sites:
        if len(sites[name]) < _LEAST_SITES:
            continue
        above = matter[name] + _PRIOR_PAGES * _PRIOR_SHARE
        below = frame[name] + _PRIOR_PAGES * (1 - _PRIOR_SHARE)
        weight = float(np.clip(np.log(above / below) - prior, -_LARGEST_NAME_WEIGHT, _LARGEST_NAME_WEIGHT))
        found[name] = weight
    return NameWeights({name: weight for name, weight in found.items() if abs(weight) >= _LEAST_NAME_WEIGHT})


def _shares(example: Example) -> dict[str, float]:
    """How much of what stands inside elements of each name is matter."""
    names = example.names
    inside = np.zeros((len(names.parents), 2))
    total: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for at in np.flatnonzero(~np.isnan(example.labels)):
        part = example.weights[at] * np.array([example.labels[at], 1 - example.labels[at]])
        inside[names.block_boxes[at]] += part
        for name in names.blocks[at] or ():
            total[name] += part
    for box in range(len(names.parents) - 1, 0, -1):
        inside[names.parents[box]] += inside[box]
    for box, own in enumerate(names.boxes):
        for name in own if inside[box].sum() > 0 else ():
            total[name] += inside[box]
    return {name: float(part[0] / part.sum()) for name, part in total.items() if part.sum() > 0}


def training_rows(examples: list[Example], num_folds: int) -> list[np.ndarray]:
    """Features of every page, with the names' weights of the other folds."""
    rows: list[np.ndarray] = [np.empty(0)] * len(examples)
    for fold in {example.fold for example in examples}:
        weights = learn_names([example for example in examples if example.fold != fold])
        for at, example in enumerate(examples):
            if example.fold == fold:
                rows[at] = assemble(example.static, name_rows(example.names, weights))
    return rows


class _Network(torch.nn.Module):
    """See `block_model`."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.a = torch.nn.Linear(num_features, _HIDDEN)
        self.b = torch.nn.Linear(_HIDDEN, _SHARED)
        self.c = torch.nn.Linear(_SHARED * WINDOW, _HIDDEN)
        self.o = torch.nn.Linear(2 * _HIDDEN, 1)
        self.dropout = torch.nn.Dropout(_DROPOUT)

    def forward(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """`x` is [blocks of all pages, features]; `places` [blocks, WINDOW] gives the neighbours, -1 for none."""
        h = self.dropout(torch.relu(self.a(x)))
        shared = torch.cat([torch.tanh(self.b(h)), torch.zeros(1, _SHARED)])
        z = self.dropout(torch.relu(self.c(shared[places].flatten(1))))
        return self.o(torch.cat([h, z], dim=1))[:, 0]


def train(examples: list[Example], num_folds: int, seed: int = 0) -> BlockModel:
    """The model of these pages."""
    rows = training_rows(examples, num_folds)
    every = np.concatenate(rows)
    mean, scale = every.mean(0), 1 / (every.std(0) + 1e-3)
    inputs = [np.clip((row - mean) * scale, -LIMIT, LIMIT).astype(np.float32) for row in rows]
    hidden = np.clip(-mean * scale, -LIMIT, LIMIT)[_NAME_PLACES].astype(np.float32)
    networks = [_fit(inputs, examples, hidden, seed + at) for at in range(_NETWORKS)]
    return BlockModel(mean, scale, _arrays(networks), learn_names(examples))


def _fit(inputs: list[np.ndarray], examples: list[Example], hidden: np.ndarray, seed: int) -> _Network:
    """One network; `hidden` holds what the columns of names are where no name is known."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = _Network(inputs[0].shape[1])
    name_places = torch.tensor(_NAME_PLACES)
    steps = -(-len(inputs) // _BATCH_PAGES)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_EPOCHS * steps)
    for _ in range(_EPOCHS):
        order = generator.permutation(len(inputs))
        for at in range(0, len(order), _BATCH_PAGES):
            pages = order[at : at + _BATCH_PAGES]
            x, places, labels, weights = _batch(inputs, examples, pages)
            is_hidden = np.repeat(generator.random(len(pages)) < _NAMELESS, [len(inputs[page]) for page in pages])
            x[torch.from_numpy(np.flatnonzero(is_hidden))[:, None], name_places] = torch.from_numpy(hidden)
            logits = network(x, places)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
            optimizer.zero_grad()
            (loss / weights.sum().clamp(min=1e-6)).backward()
            optimizer.step()
            schedule.step()
    return network


def _batch(inputs: list[np.ndarray], examples: list[Example], pages: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Features, neighbours, labels and weights of the blocks of some pages, one after another."""
    x = np.concatenate([inputs[page] for page in pages])
    places, start = [], 0
    for page in pages:
        own = window_places(len(inputs[page]))
        places.append(np.where(own < 0, -1, own + start))
        start += len(inputs[page])
    labels = np.concatenate([examples[page].labels for page in pages])
    weights = np.where(np.isnan(labels), 0, np.concatenate([examples[page].weights for page in pages]))
    arrays = x, np.concatenate(places), np.nan_to_num(labels).astype(np.float32), weights.astype(np.float32)
    return tuple(map(torch.from_numpy, arrays))


def _arrays(networks: list[_Network]) -> dict[str, np.ndarray]:
    """See `BlockModel.weights`."""
    arrays = {}
    for name in ("a", "b", "c", "o"):
        layers = [getattr(network, name) for network in networks]
        arrays[name] = np.stack([layer.weight.detach().numpy().T for layer in layers])
        arrays[f"{name}_bias"] = np.stack([layer.bias.detach().numpy()[None] for layer in layers])
    return arrays


def report(examples: list[Example], num_folds: int) -> None:
    """Print the extractor's scores on every set, each page read with a model that has not seen its site."""
    scores: dict[str, list[Score]] = defaultdict(list)
    for fold in range(num_folds):
        model = train([example for example in examples if example.fold != fold], num_folds)
        for example in examples:
            if example.fold == fold:
                text = read_page(example.record["html"], Page(Options(model=model))).text
                scores[str(example.record.get("set", "pages"))].append(score_text(example.record, text))
    for name, found in sorted(scores.items()):
        print(f"{name:16} {summary(found)}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pages with their truth")
    parser.add_argument("--output", type=Path, default=MODEL_FILE, help="default: the package's own model")
    parser.add_argument("--folds", type=int, default=5, help="parts of the sites, each judged by the others")
    parser.add_argument("--report", action="store_true", help="train a model for every fold and print its scores")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    start = time.process_time()
    records = (record for folder in arguments.folders for record in read_records(folder))
    made = (example_of(record, arguments.folds) for record in records)
    examples = [example for example in made if example is not None]
    if not examples:
        shown = ", ".join(map(str, arguments.folders))
        raise UserError(f"{shown}: no pages there (*.jsonl, *.jsonl.zst, or *.yaml beside *.html)")
    print(f"{len(examples)} pages, {sum(len(example.labels) for example in examples)} blocks", file=sys.stderr)
    if arguments.report:
        report(examples, arguments.folds)
    write_model(train(examples, arguments.folds), arguments.output)
    size, seconds = arguments.output.stat().st_size, time.process_time() - start
    print(f"wrote {arguments.output}: {size / 1000:.0f} kB, after {seconds:.0f} CPU seconds", file=sys.stderr)


if __name__ == "__main__":
    main()
