"""Processes forked from one that has imported torch and megatron-core already: a start in milliseconds, not in ten
seconds.

multiprocessing's fork server is that process. It has one thread and has opened nothing but its imports, so a fork of it
is what a new interpreter would be after the same imports: it reads its own environment and arguments, becomes
`__main__` of the program, forms its own process groups, and dies of SIGKILL as any other. `Ranks` does for several of
them what torchrun does: names them in their environment, and ends all when one has failed. What torchrun itself does is
tested by the tests that start it (`support.launch.torchrun`).
"""

import multiprocessing
import multiprocessing.connection
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from megatron_mimo.platform.network import free_port
from support.become import become
from support.paths import ROOT, environment
from support.patience import observe, patience

PRELOADED = [
    "support.warm_imports",
    # Its `__main__` is imported by every process that multiprocessing starts from a test.
    "pytest",
]
USUAL_IMPORT_SECONDS = 12.0
TERMINATION_SECONDS = 30.0
"""What torchrun gives the other ranks when one has failed."""


@cache
def _context() -> multiprocessing.context.ForkServerContext:
    """The fork server's, started with the environment that the programs' imports must see."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before, started = dict(os.environ), time.monotonic()
    os.environ.update(environment())
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    # The first process waits until the server has imported everything.
    first = context.Process(target=_has_everything)
    first.start()
    first.join()
    assert first.exitcode == 0, "the fork server has not imported what it should, or has threads"
    observe(time.monotonic() - started, USUAL_IMPORT_SECONDS)
    return context


def _has_everything() -> None:
    server = psutil.Process(os.getppid())
    sys.exit("support.warm_imports" not in sys.modules or server.num_threads() != 1)


def _run(program: Sequence[str], variables: dict[str, str], folder: str, output: str, errors: str) -> None:
    """In the forked process: `program`, with its output in files."""
    for descriptor, path in ((1, output), (2, errors)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    become(program, variables, folder)


class Ranks:
    """`processes` ranks of one program, named as torchrun names them; one alone (0) is named nothing.

    A context manager: whatever still runs at its end is killed.
    """

    def __init__(self, processes: int, *program: str, cwd: Path = ROOT, **extra: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ranks_")
        self._output, self._errors = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        self._output.touch()
        self._errors.touch()
        shared = _torchrun_variables(processes) if processes else {}
        self.ranks: list[BaseProcess] = []
        for rank in range(processes or 1):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes else {}
            arguments = (program, environment(**shared, **own) | extra, str(cwd), str(self._output), str(self._errors))
            self.ranks.append(_context().Process(target=_run, args=arguments))
            self.ranks[-1].start()

    @property
    def stdout(self) -> str:
        return self._output.read_text()

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def poll(self) -> int | None:
        """None while a rank runs and none has failed; else the exit code, as `wait` gives it."""
        codes = [rank.exitcode for rank in self.ranks]
        return self.wait(TERMINATION_SECONDS) if any(codes) or None not in codes else None

    def wait(self, timeout: float) -> int:
        """0, or the exit code of the first rank that failed, after which the others are ended.

        Raises subprocess.TimeoutExpired, after killing them, where they are not through in `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while (failed := next((rank.exitcode for rank in self.ranks if rank.exitcode), 0)) == 0:
            running = [rank.sentinel for rank in self.ranks if rank.exitcode is None]
            if not running:
                return 0
            if not multiprocessing.connection.wait(running, max(0.0, deadline - time.monotonic())):
                self.kill()
                raise subprocess.TimeoutExpired("ranks", timeout, self.stdout, self.stderr)
        self._end_the_others()
        return failed

    def _end_the_others(self) -> None:
        for rank in self.ranks:
            rank.terminate()
        deadline = time.monotonic() + patience(TERMINATION_SECONDS)
        for rank in self.ranks:
            rank.join(max(0.0, deadline - time.monotonic()))
        self.kill()

    def descendants(self) -> list[psutil.Process]:
        """The ranks and whatever they started: loaders, checkpoint writers."""
        found = []
        for rank in self.ranks:
            try:
                process = psutil.Process(rank.pid)
                found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def send_signal(self, number: int) -> None:
        for rank in self.ranks:
            if rank.exitcode is None and rank.pid is not None:
                os.kill(rank.pid, number)

    def kill(self) -> None:
        for rank in self.ranks:
            rank.kill()
            rank.join()

    def completed(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait to the end; standard output and error as text, not checked."""
        code = self.wait(timeout)
        return subprocess.CompletedProcess([], code, self.stdout, self.stderr)

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


def _torchrun_variables(processes: int) -> dict[str, str]:
    size, port = str(processes), str(free_port())
    return {
        "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
