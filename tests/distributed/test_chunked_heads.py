"""Chunked output heads over tensor-parallel ranks train as whole heads in one process do."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.launch import ranks
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "train_layouts.py")
STEPS = 8
CHUNKED = {"dtype": "fp32", "cross_entropy": "chunked", "cross_entropy_chunk_vocab": 64}
LAYOUTS: dict[str, dict[str, Any]] = {
    "TP2": {"tensor_model_parallel_size": 2},
    "TP2 + SP": {"tensor_model_parallel_size": 2, "sequence_parallel": True},
    "PP2": {"pipeline_model_parallel_size": 2},
}


def train(folder: Path, data: Path, processes: int, trees: dict[str, dict[str, Any]]) -> dict[str, list[dict]]:
    """Losses and gradient norms of every step, by name."""
    folder.mkdir()
    jobs = {}
    for name, settings in trees.items():
        tree = tiny_tree(data, folder / name, STEPS) | settings
        jobs[name] = {"tree": tree, "folder": str(write_run(folder / name, tree).parent)}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run = ranks(processes, PROGRAM, str(folder / "jobs.json"), str(folder / "results.json"))
    assert run.returncode == 0, run.stderr[-3000:]
    parts = [json.loads(part.read_text()) for part in folder.glob("results.json.rank*")]
    return {name: curve for part in parts for name, curve in part.items()}


def test_tensor_and_pipeline_parallel_ranks_agree_with_whole_heads(tmp_path: Path, tiny_data: Path) -> None:
    whole = train(tmp_path / "whole", tiny_data, 1, {"whole": {}})["whole"]
    trees = {name: {"parallel": parallel, "precision": CHUNKED} for name, parallel in LAYOUTS.items()}
    curves = train(tmp_path / "chunked", tiny_data, 2, trees)
    assert curves.keys() == LAYOUTS.keys()
    for name, curve in curves.items():
        assert len(curve) == STEPS
        for row, expected in zip(curve, whole, strict=True):
            assert row["losses"] == pytest.approx(expected["losses"], abs=1e-4), name
            assert row["grad_norm"] == pytest.approx(expected["grad_norm"], abs=1e-3), name
