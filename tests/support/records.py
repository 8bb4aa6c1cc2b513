"""Records of checkpoints that no run has written."""

import json
from pathlib import Path
from typing import Any

from megatron_mimo.config import ModelConfig
from megatron_mimo.training.checkpoint_files import file_hashes, step_folder
from megatron_mimo.training.checkpoint_record import CheckpointRecord, StageRecord, write_record
from megatron_mimo.training.state import Progress

TOKENS_A_STEP = 100
MODEL = ModelConfig(
    num_layers=1, hidden_size=64, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, kv_channels=32,
    vocab_size=384,
)  # fmt: skip


def record(step: int = 0, consumed_tokens: int = 0, **facts: Any) -> CheckpointRecord:
    """Of a run with a single stage named `one`."""
    values: dict[str, Any] = {
        "name": "unit",
        "model": MODEL,
        "stages": [StageRecord(name="one", seq_length=100, rotary_base=10_000, tokens=300, mixture="one.yaml")],
        "tokenizer_sha256": "",
        "tokenizer_folder": "nowhere",
        "progress": Progress(step, consumed_tokens, 0, step),
    } | facts
    return CheckpointRecord(**values)


def write_checkpoint(folder: Path, step: int, **facts: Any) -> Path:
    """A checkpoint of a few bytes, as training writes it."""
    path = folder / step_folder(step)
    path.mkdir(parents=True)
    (path / "__0_0.distcp").write_bytes(b"weights of step %d" % step)
    (path / ".metadata").write_bytes(b"places")
    write_record(path, record(step, step * TOKENS_A_STEP, **facts))
    (path / "checksums.json").write_text(json.dumps(file_hashes(path, 0, 1)))
    return path
