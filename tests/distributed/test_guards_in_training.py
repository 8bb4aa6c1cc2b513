"""A NaN in the middle of a run, under each policy."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.launch import python
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "programs" / "poisoned_run.py"
STEPS = 16


def poisoned(folder: Path, data: Path, policy: str) -> dict[str, Any]:
    tree = tiny_tree(data, folder / "run", STEPS)
    tree |= {"guard": {"on_non_finite": policy}, "checkpoint": {"every_steps": 4}, "evaluation": {"sequences": 0}}
    write_run(folder, tree)
    run = python(str(PROGRAM), json.dumps(tree), str(folder), str(folder / "result.json"))
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> dict[str, Any]:
    return poisoned(tmp_path_factory.mktemp("rollback"), tiny_data, "rollback")


def test_rollback_continues_as_if_nothing_had_happened(rolled_back: dict[str, Any]) -> None:
    assert rolled_back["rollbacks"] == [8]
    assert [row["step"] for row in rolled_back["steps"]] == list(range(1, STEPS + 1))
    assert not any(row["skipped"] for row in rolled_back["steps"])


def test_skip_leaves_the_step_out(rolled_back: dict[str, Any], tmp_path: Path, tiny_data: Path) -> None:
    result = poisoned(tmp_path, tiny_data, "skip")
    assert [row["step"] for row in result["steps"] if row["skipped"]] == [11]
    pairs = list(zip(result["steps"], rolled_back["steps"], strict=True))
    # The skipped step saw the NaN; the next one has the weights of the step before it, and so another loss.
    assert all(row["loss"] == other["loss"] for row, other in pairs[:10])
    assert pairs[11][0]["loss"] != pairs[11][1]["loss"]
    assert abs(pairs[11][0]["loss"] - pairs[11][1]["loss"]) < 0.2


def test_stop_names_the_step(tmp_path: Path, tiny_data: Path) -> None:
    result = poisoned(tmp_path, tiny_data, "stop")
    assert "stopped at step 11: not finite" in result["stopped"]
    assert len(result["steps"]) == 10
