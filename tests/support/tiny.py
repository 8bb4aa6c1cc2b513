"""A tiny model, a tiny data folder and a tiny run: the real program in a few seconds."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config import PretrainConfig
from megatron_mimo.config.load import from_tree
from megatron_mimo.data.tokens.preprocess import PreprocessConfig, SourceConfig, TokenizerConfig, preprocess

VOCAB_SIZE = 320
SEQ_LENGTH = 64
TEXT = "the token model learns from many small steps and every rank reads its own part of a batch"
WORDS = TEXT.split(" ")


def make_tiny_data(folder: Path) -> Path:
    """Two sources of random sentences, tokenized by the real job; returns the data folder."""
    generator = random.Random(0)
    sources = []
    for name, lengths in (("prose", (5, 30)), ("digits", (3, 12))):
        lines = []
        for number in range(400):
            count = generator.randint(*lengths)
            words = [
                generator.choice(WORDS) if name == "prose" else str(generator.randint(0, 99)) for _ in range(count)
            ]
            lines.append(json.dumps({"id": f"{name}-{number}", "text": " ".join(words)}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        sources.append(SourceConfig(name=name, domain="web", jsonl=str(folder / f"{name}.jsonl"), valid_share=0.2))
    config = PreprocessConfig(
        output_dir=str(folder / "tokenized"), tokenizer=TokenizerConfig(vocab_size=300), sources=sources
    )
    preprocess(config, report=lambda line: None)
    return Path(config.output_dir)


def tiny_tree(data_folder: Path, output_dir: Path, steps: int = 20) -> dict[str, Any]:
    """A configuration as YAML would give it: fp32, two stages of 3/4 and 1/4 of `steps`, 512 tokens per step."""
    tokens = 8 * SEQ_LENGTH
    first = steps * 3 // 4 * tokens
    second = steps * tokens - first
    stage: dict[str, Any] = {"micro_batch_size": 2, "global_batch_size": 8, "seq_length": SEQ_LENGTH}
    return {
        "name": "tiny",
        "output_dir": str(output_dir),
        "num_threads": 1,
        "model": {
            "num_layers": 4,
            "hidden_size": 64,
            "ffn_hidden_size": 96,
            "num_attention_heads": 4,
            "num_query_groups": 2,
            "kv_channels": 16,
            "vocab_size": VOCAB_SIZE,
        },
        "stages": [
            stage
            | {
                "name": "stage1",
                "tokens": first,
                "rotary_base": 10000,
                "mixture": "stage1.yaml",
                "learning_rate": [
                    {"kind": "linear", "tokens": 2 * tokens, "start": 1e-4, "end": 3e-3},
                    {"kind": "cosine", "tokens": first - 2 * tokens, "start": 3e-3, "end": 1e-3},
                ],
            },
            stage
            | {
                "name": "stage2",
                "tokens": second,
                "seq_length": 2 * SEQ_LENGTH,
                "global_batch_size": 4,
                "micro_batch_size": 1,
                "rotary_base": 640000,
                "mixture": "stage2.yaml",
                "learning_rate": [{"kind": "constant", "tokens": second, "start": 1e-3, "end": 1e-3}],
            },
        ],
        "mtp_loss": [{"mtp_loss_scaling_factor": 0.3, "until_tokens": first // 2}, {"mtp_loss_scaling_factor": 0.1}],
        "data": {"path": str(data_folder), "tokenizer": str(data_folder / "tokenizer"), "num_workers": 0},
        "precision": {"dtype": "fp32"},
        "evaluation": {"sequences": 4},
        "checkpoint": {"every_steps": 1000, "save_at_end": False},
        "guard": {"hang_timeout_seconds": 120},
        "logging": {"every_steps": 5},
    }


def write_run(folder: Path, tree: dict[str, Any]) -> Path:
    """Write the configuration and its mixture files; returns the YAML's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage1.yaml").write_text("sources: {prose: 0.7, digits: 0.3}\n")
    (folder / "stage2.yaml").write_text("sources: {prose: 0.4, digits: 0.6}\n")
    path = folder / "pretrain.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def tiny_config(tree: dict[str, Any]) -> PretrainConfig:
    return from_tree(PretrainConfig, tree, source="tiny")
