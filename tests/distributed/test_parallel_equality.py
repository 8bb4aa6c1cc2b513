"""Every layout trains the same model: losses of one process, over both stages of the tiny run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.launch import ranks
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "train_layouts.py")
GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_losses.json"
STEPS, COMPARED = 20, 12
"""Of the run that is on record, and of those that layouts are compared over: 9 and 3 in the two stages."""
TP, PP, VP, CP = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "virtual_pipeline_model_parallel_size",
    "context_parallel_size",
)
ENGINE = {"packs": True, "engine": True}
SEGMENTS = {"packs": True, "segments": True}
OPTIONS = ("packs", "engine", "segments", "steps")
"""Of the program, see there, and the length of the run; everything else in a layout is `parallel`."""
LAYOUTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "one process": {"steps": STEPS},
        "recompute": {"steps": STEPS, "recompute": "full"},
        "compared": {},
        "segments": {"segments": True},
    },
    2: {
        "TP2": {TP: 2},
        "TP2 + SP": {TP: 2, "sequence_parallel": True},
        "PP2": {PP: 2},
        "PP2 interleaved": {PP: 2, VP: 2},
        "CP2": {CP: 2},
        "DP2": {},
        "CP2, packed": {CP: 2, "packs": True, "recompute": "selective"},
        "CP2, packed, engine": {CP: 2} | ENGINE,
    },
    4: {
        "TP2 x PP2": {TP: 2, PP: 2, "sequence_parallel": True},
        "DP2 x CP2": {CP: 2},
        "CP4, packed": {CP: 4, "packs": True},
        "CP2 x TP2, packed": {CP: 2, TP: 2, "sequence_parallel": True, "packs": True},
        "CP2 x TP2, packed, engine": {CP: 2, TP: 2, "sequence_parallel": True} | ENGINE,
        "CP2 x PP2, packed, segments": {CP: 2, PP: 2} | SEGMENTS,
        "CP2 x PP2, packed, engine": {CP: 2, PP: 2, "recompute": "full"} | ENGINE,
    },
}
"""Packed rows are compared with one process that masks them."""


def train_layouts(folder: Path, data: Path, processes: int, **settings: Any) -> dict[str, list[dict]]:
    """Losses of every step by layout name, from one start of `processes` ranks."""
    jobs = {}
    for name, layout in LAYOUTS[processes].items():
        options = {option: layout[option] for option in OPTIONS if option in layout}
        steps = options.pop("steps", COMPARED)
        parallel = {key: value for key, value in layout.items() if key not in OPTIONS}
        tree = tiny_tree(data, folder / name, steps) | {"parallel": parallel} | settings
        jobs[name] = options | {"tree": tree, "folder": str(write_run(folder / name, tree).parent)}
    jobs_path, results_path = folder / "jobs.json", folder / "results.json"
    jobs_path.write_text(json.dumps(jobs))
    run = ranks(processes, PROGRAM, str(jobs_path), str(results_path))
    assert run.returncode == 0, run.stderr[-3000:]
    results = {}
    for part in folder.glob("results.json.rank*"):
        results |= json.loads(part.read_text())
    assert results.keys() == jobs.keys()
    return results


@pytest.fixture(scope="module")
def single_process(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> dict[str, list[dict]]:
    return train_layouts(tmp_path_factory.mktemp("single"), tiny_data, 1)


def worst(curve: list[dict], expected: list[dict], value: Callable[[dict], list[float]]) -> float:
    """Largest absolute difference of any step."""
    assert len(curve) == len(expected) == COMPARED
    return max(
        abs(a - b)
        for row, other in zip(curve, expected, strict=True)
        for a, b in zip(value(row), value(other), strict=True)
    )


@pytest.mark.parametrize("processes", [2, 4])
def test_every_layout_gives_the_losses_of_one_process(
    processes: int, single_process: dict[str, list[dict]], tmp_path: Path, tiny_data: Path
) -> None:
    for name, curve in train_layouts(tmp_path, tiny_data, processes).items():
        expected = single_process["segments" if "segments" in name else "compared"]
        assert worst(curve, expected, lambda row: row["losses"]) < (1e-5 if "packed" in name else 1e-4), name
        # The gradient norm sees what the losses of a few steps hide: parameters counted twice or not at all.
        assert worst(curve, expected, lambda row: [row["grad_norm"]]) < 1e-3, name


def test_recomputation_changes_nothing(single_process: dict[str, list[dict]]) -> None:
    assert single_process["recompute"] == single_process["one process"]


def test_the_tiny_run_learns(single_process: dict[str, list[dict]]) -> None:
    curve = single_process["one process"]
    assert curve[-1]["losses"][0] < curve[0]["losses"][0] - 1.0
    assert curve[-1]["losses"][1] < curve[0]["losses"][1] - 0.5


def test_golden_losses(single_process: dict[str, list[dict]]) -> None:
    """Main loss, MTP loss and gradient norm of every step, as they were when the training step was last changed."""
    curve = [[row["step"], *row["losses"], row["grad_norm"]] for row in single_process["one process"]]
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text("\n".join(["[", ",\n".join(json.dumps(row) for row in curve), "]"]) + "\n")
    for row, expected in zip(curve, json.loads(GOLDEN.read_text()), strict=True):
        assert row == pytest.approx(expected, rel=2e-4), f"step {row[0]}"
