"""Two gloo processes, one of them signalled: both must leave the loop after the same step."""

import contextlib
import signal
import time
from pathlib import Path

import pytest

from support.launch import Ranks
from support.patience import patience

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, time
import torch.distributed as dist
from megatron_mimo.training.preemption import PreemptionHandler
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
with PreemptionHandler() as preemption:
    print("ready", flush=True)
    steps = 1
    while not preemption.agreed_to_stop():
        time.sleep(0.003 * (1 + rank))
        steps += 1
    print(steps, preemption.received, flush=True)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("signalled", [0, 1])
def test_one_signalled_rank_stops_all_after_the_same_step(tmp_path: Path, signalled: int) -> None:
    with contextlib.ExitStack() as stack:
        ranks = [stack.enter_context(Ranks(0, "-c", PROGRAM, str(rank), str(tmp_path / "store"))) for rank in range(2)]
        deadline = time.monotonic() + patience(60)
        while not all(rank.stdout.startswith("ready\n") for rank in ranks):
            assert time.monotonic() < deadline, [rank.stderr for rank in ranks]
            time.sleep(0.01)
        ranks[signalled].send_signal(signal.SIGTERM)
        done = [rank.completed(patience(60)) for rank in ranks]
    results = [each.stdout.removeprefix("ready\n").split() for each in done]
    assert [each.returncode for each in done] == [0, 0]
    assert results[0][0] == results[1][0]
    assert [received for _, received in results] == ["SIGTERM" if r == signalled else "None" for r in range(2)]
