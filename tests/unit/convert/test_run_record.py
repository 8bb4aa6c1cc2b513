"""The card's record ends at the checkpoint's step, whatever the run did afterwards."""

import dataclasses
import io
import json
from pathlib import Path

import matplotlib.image
import pytest

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.model_card import model_card
from megatron_mimo.convert.run_record import RunRecord, loss_curve, read_run_record
from megatron_mimo.training.metrics import StepMetrics


def step(number: int, loss: float) -> dict:
    metrics = StepMetrics(
        step=number, consumed_tokens=100 * number, stage="one", loss=loss, mtp_losses=[loss + 1], grad_norm=1.0,
        learning_rate=0.1, global_batch_size=1, seq_length=100, rotary_base=10_000, mtp_loss_scaling_factor=0.3,
        step_seconds=1.0, tokens_per_second=100.0, tflops_per_gpu=0.1, mfu=None, memory_bytes=1, skipped=False,
        source_losses={"text": loss}, source_tokens={"text": 100},
    )  # fmt: skip
    return {"kind": "step", **dataclasses.asdict(metrics)}


def evaluation(number: int, loss: float) -> dict:
    return {"kind": "evaluation", "step": number, "consumed_tokens": 100 * number, "losses": {"text": loss}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    rows = [step(1, 5.0), step(2, 4.0), evaluation(2, 4.25), step(3, 3.0), evaluation(3, 3.25)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "command.txt").write_text("torchrun -m megatron_mimo.pretrain run.yaml\n")
    folder = tmp_path / "checkpoints" / "step_00000002"
    folder.mkdir(parents=True)
    return folder


def test_what_came_after_the_checkpoint_is_left_out(checkpoint: Path) -> None:
    record = read_run_record(checkpoint, step=2)
    assert record.command == "torchrun -m megatron_mimo.pretrain run.yaml"
    assert record.held_out_losses == {"text": 4.25}
    assert record.curve == loss_curve([step(1, 5.0), step(2, 4.0)])
    assert record.curve != loss_curve([step(1, 5.0), step(2, 4.0), step(3, 3.0)])
    assert matplotlib.image.imread(io.BytesIO(record.curve)).std() > 0.01, "not an empty picture"


def test_a_checkpoint_without_its_run(tmp_path: Path) -> None:
    assert read_run_record(tmp_path / "checkpoints" / "step_00000002", step=2) == RunRecord()


def test_the_card_shows_it(checkpoint: Path) -> None:
    model = ModelConfig(
        num_layers=1, hidden_size=64, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, kv_channels=32,
        vocab_size=384,
    )  # fmt: skip
    stage = {"name": "one", "tokens": 300, "seq_length": 100, "rotary_base": 10_000, "mixture": "one.yaml"}
    run = {"config": {"stages": [stage], "start": None}, "consumed_tokens": 200, "step": 2}
    card = model_card(run, model, "one", read_run_record(checkpoint, step=2))
    assert "(training_curve.png)" in card
    assert "| text | 4.2500 |" in card
    assert "```\ntorchrun -m megatron_mimo.pretrain run.yaml\n```" in card
    assert "Held-out" not in model_card(run, model, "one", RunRecord())
