"""Training under emulated FP8 recipes ends where bf16 ends, and tensor-parallel ranks quantise as one does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from support.launch import ranks
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "train_layouts.py")
STEPS, LAST = 40, 10
RECIPES: list[Any] = ["delayed", "tensorwise", "blockwise", "mxfp8"]


def test_every_recipe_ends_within_half_a_percent_of_bf16() -> None:
    from megatron_mimo.gpu_checks.device_checks import NARROW, precision, train_curve

    torch.set_num_threads(1)

    def final_loss(recipe: Any) -> float:
        curve = train_curve(NARROW, precision(False, recipe), STEPS, 64, 1e-3)
        assert curve[0][0] - curve[-1][0] > 2
        return sum(row[0] for row in curve[-LAST:]) / LAST

    bf16 = final_loss("none")
    for recipe in RECIPES:
        assert 0 < abs(final_loss(recipe) / bf16 - 1) < 0.005, recipe


def test_tensor_parallel_ranks_quantise_as_one_does(tmp_path: Path, tiny_data: Path) -> None:
    """Losses of the first steps, which FP8 rounding moves by less than the bound: data-parallel against cut layers."""
    tp2: dict[str, Any] = {"tensor_model_parallel_size": 2}
    layouts: dict[str, dict[str, Any]] = {"DP2": {}, "TP2": tp2, "TP2 + SP": tp2 | {"sequence_parallel": True}}
    jobs = {}
    for name, parallel in layouts.items():
        recipe = "delayed" if name == "TP2" else "blockwise"
        precision = {"dtype": "bf16", "backend": "torch", "fp8_recipe": recipe, "fp8_emulation": True}
        tree = tiny_tree(tiny_data, tmp_path / name, steps=8) | {"parallel": parallel, "precision": precision}
        jobs[name] = {"tree": tree, "folder": str(write_run(tmp_path / name, tree).parent)}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run = ranks(2, PROGRAM, str(tmp_path / "jobs.json"), str(tmp_path / "results.json"))
    assert run.returncode == 0, run.stderr[-3000:]
    parts = [json.loads(part.read_text()) for part in tmp_path.glob("results.json.rank*")]
    curves = {name: curve for part in parts for name, curve in part.items()}
    assert curves.keys() == layouts.keys()
    for name in ("TP2", "TP2 + SP"):
        for row, expected in zip(curves[name][:4], curves["DP2"][:4], strict=True):
            assert row["losses"] == pytest.approx(expected["losses"], rel=0.005), name
            assert row["grad_norm"] == pytest.approx(expected["grad_norm"], rel=0.05), name
