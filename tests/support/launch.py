"""Start the project's programs as a user does, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from megatron_mimo.platform.network import free_port

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parents[1]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without torchrun's variables, with the package and tests/support importable."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
    path = os.pathsep.join([str(ROOT), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | extra


def torchrun_command(processes: int, *program: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
        *("--master-port", str(free_port()), *program),
    ]


def torchrun(processes: int, *program: str, timeout_seconds: float = 300, **extra: str) -> subprocess.CompletedProcess:
    """Run to the end; standard output and error as text, not checked."""
    return subprocess.run(
        torchrun_command(processes, *program),
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )


def pretrain(*arguments: str, timeout_seconds: float = 300, **extra: str) -> subprocess.CompletedProcess:
    """One process, without torchrun."""
    return subprocess.run(
        [sys.executable, "-m", "megatron_mimo.pretrain", *arguments],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
