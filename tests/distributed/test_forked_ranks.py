"""What the other tests rely on: forked processes are as new ones, and nothing that a test starts is forgotten."""

import json
import subprocess
import sys
import time

import pytest

from support.costs import leftovers
from support.launch import Ranks, python, ranks
from support.patience import patience

pytestmark = pytest.mark.slow

DESCRIBE = """
import json, os, sys, threading, torch
import torch.distributed as dist
seen = [sys.argv[1:], os.environ["SOME"], "RANK" in os.environ, threading.active_count(), dist.is_initialized()]
print(json.dumps([*seen, os.getcwd(), torch.initial_seed()]))
sys.stderr.write("a message")
sys.exit(5)
"""
NO_COMPILER = """
import sys, torch
from megatron_mimo.platform import cpu
compiler = torch.compile
cpu.install()
import megatron_mimo.training.trainer
weight = torch.nn.Parameter(torch.ones(3))
adamw = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.01)
weight.grad = torch.tensor([1.0, -1.0, 2.0])
adamw.step()
adamw.zero_grad()
assert torch.compile is compiler
unwanted = ("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes")
print([name for name in sys.modules if name.startswith(unwanted)])
print(weight.tolist(), weight.grad)
"""
ONE_FAILS = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit(3)
time.sleep(3600)
"""


def test_a_forked_process_is_as_a_new_one() -> None:
    done = python("-c", DESCRIBE, "a b", "c", SOME="thing")
    other = python("-c", DESCRIBE, "a b", "c", SOME="thing")
    *seen, _, seed = json.loads(done.stdout)
    assert seen == [["a b", "c"], "thing", False, 1, False]
    # torch takes a new interpreter's seed from the system: no two processes have the same.
    assert seed != json.loads(other.stdout)[-1]
    assert (done.returncode, done.stderr) == (5, "a message")


def test_torchs_compiler_is_not_imported_on_the_cpu() -> None:
    """And AdamW's first step is the closed form: each weight decays, then moves by the learning rate."""
    done = python("-c", NO_COMPILER)
    assert done.returncode == 0, done.stderr
    compiler_modules, weights = done.stdout.splitlines()
    assert compiler_modules == "[]"
    values, gradient = weights.rsplit(" ", 1)
    assert json.loads(values) == pytest.approx([1 - 0.001 - 0.1, 1 - 0.001 + 0.1, 1 - 0.001 - 0.1], abs=1e-6)
    assert gradient == "None"


def test_a_rank_that_fails_ends_the_others() -> None:
    with Ranks(2, "-c", ONE_FAILS) as run:
        assert run.wait(patience(60)) == 3
        assert all(rank.exitcode for rank in run.ranks)


def test_ranks_that_do_not_end_are_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        ranks(2, "-c", "import time; time.sleep(3600)", timeout_seconds=0.5)


def test_what_is_left_over_is_found() -> None:
    """A process whose parent has ended and which is in a session of its own."""
    code = "import subprocess as s; print(s.Popen(['sleep', '3600'], stdout=s.DEVNULL, start_new_session=True).pid)"
    orphan = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    (found,) = (process for process in leftovers() if process.pid == orphan)
    found.kill()
    deadline = time.monotonic() + patience(20)
    while any(process.pid == orphan for process in leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process.pid == orphan for process in leftovers())
