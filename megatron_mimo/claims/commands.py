"""The commands of a run: their words, and their execution with what they cost."""

import os
import shlex
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

from megatron_mimo.config.errors import UserError

MARK = "MEGATRON_MIMO_STUDY_COMMAND"
"""Environment variable that all processes of a command inherit: Ray's do not stay its children."""
SAMPLING_SECONDS = 2.0


def words(command: str, named: dict[str, str], settings: Sequence[str] = ()) -> list[str]:
    """The command as words, its places filled in. No shell reads it."""
    found = []
    for word in shlex.split(command):
        found += [part.format_map(named) for part in (settings if word == "{settings}" else [word])]
    programs = {"megatron-mimo": ["-m", "megatron_mimo"], "python": []}
    if found[0] not in programs:
        raise UserError(f"{command}: a step starts with {' or '.join(programs)}")
    return [sys.executable, *programs[found[0]], *found[1:]]


def execute(command: Sequence[str], log: Path) -> float:
    """Run a command on one thread, its output added to `log`; returns the CPU seconds of all its processes.

    Raises UserError if it fails.
    """
    mark = uuid.uuid4().hex
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", MARK: mark}
    with log.open("ab") as output, CpuTimes(mark) as times:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise UserError(
            f"{shlex.join(command)}\nfailed with exit code {process.returncode}:\n{tail}\n(all of it: {log})"
        )
    # What the command waited for is exact; what was not its child is known up to the last look.
    return max(usage.ru_utime + usage.ru_stime, times.seconds)


class CpuTimes:
    """CPU seconds of all processes that carry a mark in their environment, looked at every two seconds."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._seconds: dict[tuple[int, float], float] = {}
        self._others: set[tuple[int, float]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def seconds(self) -> float:
        """Of every process, as it was last seen."""
        return sum(self._seconds.values())

    def __enter__(self) -> "CpuTimes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            for process in psutil.process_iter():
                try:
                    self._look(process)
                except (psutil.Error, OSError):
                    continue  # it has ended, or is not ours to read

    def _look(self, process: psutil.Process) -> None:
        key = process.pid, process.create_time()
        if key in self._others:
            return
        if key not in self._seconds and process.environ().get(MARK) != self._mark:
            self._others.add(key)
            return
        times = process.cpu_times()
        self._seconds[key] = times.user + times.system
