"""Two gloo processes exchange their timings: both hold the same report."""

import contextlib
import json
from pathlib import Path

import pytest

from support.launch import Ranks
from support.patience import patience

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, json, dataclasses
import torch.distributed as dist
from megatron_mimo.training.straggler import StragglerMonitor
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
report = StragglerMonitor(every_steps=1).record(step_seconds=1.0, data_seconds=0.3 if rank else 0.1)
print(json.dumps([dataclasses.asdict(entry) for entry in report]))
dist.destroy_process_group()
"""


def test_two_ranks_see_the_same_report(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(Ranks(0, "-c", PROGRAM, str(rank), str(tmp_path / "store"))) for rank in range(2)
        ]
        first, second = (json.loads(rank.completed(patience(60)).stdout) for rank in started)
    assert first == second
    data = next(entry for entry in first if entry["timing"] == "data_seconds")
    assert (data["rank"], data["slowest_seconds"], data["median_seconds"]) == (1, 0.3, pytest.approx(0.2))
