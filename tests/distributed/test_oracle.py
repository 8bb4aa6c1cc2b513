"""The megatron-core model against the plain-PyTorch reference: same weights, same logits."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import to_megatron
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.training.batch import documents
from support.launch import ranks

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "oracle_logits.py")
EOD, ROTARY_BASE = 7, 640000
SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 64,
    "ffn_hidden_size": 96,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "kv_channels": 16,
    "vocab_size": 128,
    "mtp_num_layers": 2,
}


def random_reference(model: ModelConfig) -> ReferenceMiMo:
    """Weights with nothing at its neutral value, so that a forgotten norm or bias shows."""
    torch.manual_seed(3)
    reference = ReferenceMiMo(model, ROTARY_BASE)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            scale = 0.3 if "norm" in name or name.endswith("bias") else 0.05
            parameter.copy_(("norm" in name) + scale * torch.randn_like(parameter))
    return reference.eval()


@pytest.mark.parametrize(
    ("processes", "parallel", "options"),
    [
        (1, {}, {}),
        (1, {}, {"mtp_hidden_state": "after_final_norm", "mtp_zero_first_embedding": False}),
        (2, {"tensor_model_parallel_size": 2, "sequence_parallel": True}, {}),
        (2, {"pipeline_model_parallel_size": 2}, {}),
    ],
)
def test_main_and_mtp_logits_equal_the_reference(
    processes: int, parallel: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    model = ModelConfig(**SIZES, **options)
    reference = random_reference(model)
    state = reference.state_dict()
    save_file(
        {name: tensor.contiguous() for name, tensor in to_megatron(mimo_ops(model), state.__getitem__)},
        tmp_path / "weights.safetensors",
    )
    rows = torch.randint(0, model.vocab_size, (3, 41))
    rows[:, 12] = rows[1, 25] = EOD
    save_file({"rows": rows}, tmp_path / "inputs.safetensors")
    job = {
        "model": asdict(model),
        "parallel": parallel,
        "inputs": str(tmp_path / "inputs.safetensors"),
        "weights": str(tmp_path / "weights.safetensors"),
        "rotary_base": ROTARY_BASE,
        "eod": EOD,
    }
    run = ranks(processes, PROGRAM, json.dumps(job), str(tmp_path / "logits.safetensors"))
    assert run.returncode == 0, run.stderr[-3000:]
    logits = load_file(tmp_path / "logits.safetensors")["logits"]

    expected = expected_logits(reference, rows)
    s = rows.shape[1] - 1
    for depth in range(1 + model.mtp_num_layers):
        # Beyond the sample's end the next tokens are unknown: those positions carry no loss.
        seen = slice(0, s - depth)
        torch.testing.assert_close(logits[depth][:, seen], expected[depth][:, seen], atol=1e-5, rtol=0)
    assert expected.std() > 0.2


@torch.no_grad()
def expected_logits(reference: ReferenceMiMo, rows: torch.Tensor) -> torch.Tensor:
    """Reference logits of the rows' input tokens, documents kept apart, positions restarting with each."""
    tokens = rows[:, :-1]
    document_ids = documents(tokens, EOD)
    position_ids = torch.stack([_positions(row) for row in document_ids])
    whole = reference(rows, torch.cat([position_ids, position_ids[:, -1:] + 1], 1), documents(rows, EOD))
    return whole[:, :, :-1]


def _positions(document_ids: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(document_ids).tolist()
    return torch.cat([torch.arange(count) for count in counts])
