"""Two gloo processes, one of them signalled: both must leave the loop after the same step."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for process in ranks:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        ranks[signalled].send_signal(signal.SIGTERM)
        results = [process.communicate(timeout=60)[0].split() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0]
    assert results[0][0] == results[1][0]
    assert [received for _, received in results] == ["SIGTERM" if r == signalled else "None" for r in range(2)]
