"""A run on pairs that megatron-core's builder wrote has the losses of a run on the same text tokenized here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megatron_mimo import pretrain
from megatron_mimo.cli import import_tokens
from megatron_mimo.data.tokens.manifest import read_manifest
from support.needs import megatron_core
from support.tiny import tiny_tree, write_run

indexed_dataset = megatron_core("datasets.indexed_dataset")
STEPS = 4


def losses(data: Path, folder: Path) -> list[Any]:
    """Losses and gradient norms of every step, and of the evaluation at the end."""
    tree = tiny_tree(data, folder / "run", STEPS)
    tree["model"]["num_layers"] = 1
    assert pretrain.main([str(write_run(folder, tree))]) == 0
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("step") == STEPS
    return [
        {key: value for key, value in line.items() if "loss" in key or key == "grad_norm"}
        for line in lines
        if line["kind"] in ("step", "evaluation")
    ]


def write_as_a_peer(ours: Path, prefix: Path) -> list[Path]:
    """The documents of one of our pairs in two pairs of two types, the first with two sequences per document."""
    documents = indexed_dataset.IndexedDataset(str(ours))
    half, written = len(documents) // 3, []
    for number, (dtype, numbers) in enumerate(((np.int64, range(half)), (np.int32, range(half, len(documents))))):
        path = prefix.with_name(f"{prefix.name}_{number}")
        builder = indexed_dataset.IndexedDatasetBuilder(f"{path}.bin", dtype=dtype)
        for i in numbers:
            tokens = torch.from_numpy(documents[i].astype(np.int64))
            builder.add_document(tokens, [1, len(tokens) - 1] if dtype is np.int64 else [len(tokens)])
        builder.finalize(f"{path}.idx")
        written.append(path)
    return written


def test_losses_are_those_of_our_own_tokens(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--tokenizer", str(tiny_data / "tokenizer"), "--output", str(tmp_path / "data")]
    for name, source in read_manifest(tiny_data).sources.items():
        for split, entry in (("train", source.train), ("valid", source.valid)):
            for path in write_as_a_peer(tiny_data / entry.prefix, tmp_path / f"{name}_{split}"):
                arguments += [f"{name}={path}"] if split == "train" else ["--valid", f"{name}={path}"]
    assert import_tokens.main(arguments) == 0
    ours, theirs = losses(tiny_data, tmp_path / "ours"), losses(tmp_path / "data", tmp_path / "theirs")
    assert len(ours) > STEPS and ours == theirs
