"""Start the project's programs: as a user does, or forked from a process that has imported their libraries already.

`ranks`, `pretrain` and `python` are what tests use; `torchrun`, `cold_start` and their commands are for what only a
program started from nothing can show, and each entry point has a test that uses them.
"""

import subprocess
import sys
from pathlib import Path

from megatron_mimo.platform.network import free_port
from support.paths import ROOT, environment
from support.patience import patience
from support.warm import Ranks

__all__ = ["ROOT", "Ranks", "cold_start", "environment", "free_port", "pretrain", "python", "ranks", "torchrun"]


def ranks(processes: int, *program: str, timeout_seconds: float = 300, **extra: str) -> subprocess.CompletedProcess:
    """Forked ranks to the end; standard output and error as text, not checked."""
    with Ranks(processes, *program, **extra) as started:
        return started.completed(patience(timeout_seconds))


def python(
    *program: str, timeout_seconds: float = 300, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess[str]:
    """One forked process to the end, without torchrun's variables; output and errors not checked."""
    with Ranks(0, *program, cwd=cwd, **extra) as started:
        return started.completed(patience(timeout_seconds))


def pretrain(*arguments: str, timeout_seconds: float = 300, **extra: str) -> subprocess.CompletedProcess[str]:
    """One forked process of the pre-training program."""
    return python("-m", "megatron_mimo.pretrain", *arguments, timeout_seconds=timeout_seconds, **extra)


def cold_start(
    *program: str, timeout_seconds: float = 300, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess[str]:
    """One new interpreter to the end; output and errors not checked."""
    return subprocess.run(
        [sys.executable, *program],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=patience(timeout_seconds),
    )


def torchrun_command(processes: int, *program: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
        *("--master-port", str(free_port()), *program),
    ]


def torchrun(processes: int, *program: str, timeout_seconds: float = 300, **extra: str) -> subprocess.CompletedProcess:
    """Under torchrun itself to the end; standard output and error as text, not checked."""
    return subprocess.run(
        torchrun_command(processes, *program),
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=patience(timeout_seconds),
    )
