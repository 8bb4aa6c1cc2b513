"""What benchmarks of several ranks share: starting this machine's ranks, and the process group in each of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist

ROOT = Path(__file__).parents[1]


def answer_of_ranks(processes: int, program: str, arguments: Sequence[str]) -> Any:
    """Run a program as one process or under torchrun to its end; the JSON that `answer` printed in it.

    It finds the package and the tests' support; how many threads a rank uses is for the program to say.
    """
    from megatron_mimo.platform.network import free_port

    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(free_port())]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *(launcher if processes > 1 else []), program, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def answer(found: Any) -> None:
    """Print a mapping for `answer_of_ranks`, on the first rank only."""
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


@contextmanager
def process_group(processes: int) -> Iterator[None]:
    """megatron-core's groups over the ranks that torchrun started, or over this one process."""
    from megatron.core import parallel_state

    from megatron_mimo.model.build import single_process_group

    if processes == 1:
        with single_process_group():
            yield
        return
    dist.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    yield
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
