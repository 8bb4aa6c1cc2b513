"""A stage that is cut otherwise (`stages[].parallel`): the run changes over by itself, and trains as if it had not."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.launch import ranks
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

STEPS = 8
"""Six of the first stage, two of the second."""


def train(data: Path, folder: Path, second: dict[str, Any] | None, **settings: Any) -> str:
    tree = tiny_tree(data, folder / "run", STEPS) | settings
    if second:
        tree["stages"][1] |= {"parallel": second}
    run = ranks(2, "-m", "megatron_mimo.pretrain", str(write_run(folder, tree)))
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> list[float]:
    """Losses with data parallelism throughout."""
    folder = tmp_path_factory.mktemp("unchanged")
    train(tiny_data, folder, None)
    return losses(folder)


def test_the_run_goes_on_in_the_next_stages_layout(tiny_data: Path, tmp_path: Path, unchanged: list[float]) -> None:
    """From data to context parallelism; a second start, in the second stage, begins in its layout at once."""
    second = {"context_parallel_size": 2}
    said = train(tiny_data, tmp_path, second, max_steps=7, checkpoint={"every_steps": 1000, "save_at_end": True})
    assert said.count("resumed from") == 1 and "next stage" in said
    assert "layout.context_parallel_size: 1 -> 2" in said
    found = losses(tmp_path)
    assert found == pytest.approx(unchanged[:7], rel=1e-5) and found[:6] == unchanged[:6]
    said = train(tiny_data, tmp_path, second)
    assert said.count("resumed from") == 1 and "next stage" not in said
    assert losses(tmp_path) == pytest.approx(unchanged, rel=1e-5)
