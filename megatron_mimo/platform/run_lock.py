"""The lock of a run folder: `run.lock` names the process that writes there, and a second one is refused.

A crash leaves the file behind. It is stale where its process is gone (same host, no such process or one that started at
another moment), or where the scheduler has started the same job again elsewhere; then it is taken over.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from megatron_mimo.config import UserError

LOCK_FILE = "run.lock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """The process that holds a folder."""

    host: str
    process_id: int
    process_start: str | None
    """Which process had that number: a later one with the same number has another start."""
    since: str
    job: str | None = None
    """Job of a scheduler or launcher that may start it again on another host; None outside such a job."""
    attempt: int = 0
    """How often the job was started again."""

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        job, attempt = _job()
        return cls(
            socket.gethostname(), os.getpid(), process_start(os.getpid()), time.strftime("%F %T %z"), job, attempt
        )

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; asks for a process of this host."""
        return self.process_start is not None and process_start(self.process_id) == self.process_start


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, made where it is missing, against other processes; one process of a run enters it.

    Raises UserError naming the holder where another run writes there, or where the folder cannot be written.
    """
    is_new = not folder.exists()
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holder = _acquire(path)
    except OSError as error:
        raise UserError(f"cannot write the run folder {folder}: {error.strerror}; choose another output_dir") from error
    try:
        yield
    finally:
        with suppress(OSError):
            _release(path, holder)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()


def process_start(process_id: int) -> str | None:
    """Boot of the machine and clock tick since then at which the process started, or None where it has ended."""
    try:
        if not BOOT_ID.exists():
            return str(psutil.Process(process_id).create_time())
        # The name in parentheses may hold spaces; state is the first field after it, the start the twentieth.
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except (OSError, psutil.Error):
        return None
    return None if fields[0] in "ZX" else f"{BOOT_ID.read_text().strip()} {fields[19]}"


def _acquire(path: Path) -> Holder:
    mine = Holder.here()
    with _exclusive(path) as file:
        other = _read(file)
        if other is not None:
            _refuse_or_take_over(path, other, mine)
        file.seek(0)
        file.truncate()
        file.write(json.dumps(asdict(mine)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return mine


def _refuse_or_take_over(path: Path, other: Holder, mine: Holder) -> None:
    who = f"process {other.process_id} on {other.host} (since {other.since})"
    if other.job is not None and other.job == mine.job and other.attempt < mine.attempt:
        print(f"taking over {path.parent}: {other.job} was started again, {who} held it", file=sys.stderr, flush=True)
        return
    if other.host != mine.host:
        raise UserError(
            f"{path.parent} is held by {who}, which cannot be seen from {mine.host}: choose another output_dir, or,"
            f" when you know that it has ended, remove {path}"
        )
    if other.is_alive:
        raise UserError(f"{path.parent} is held by {who}: stop that run, or choose another output_dir")
    print(f"taking over {path.parent}: {who} ended without releasing it", file=sys.stderr, flush=True)


def _release(path: Path, holder: Holder) -> None:
    # A forked child leaves by the same door as its parent, and must not open it.
    if os.getpid() == holder.process_id:
        with _exclusive(path) as file:
            if _read(file) == holder:
                path.unlink()


@contextmanager
def _exclusive(path: Path) -> Iterator[IO[str]]:
    """The open lock file, and nobody else between reading and writing it (where the file system knows flock)."""
    while True:
        with path.open("a+", encoding="utf-8") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it before may have removed the file that was opened.
            if _is_file(path, file):
                yield file
                return


def _is_file(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> Holder | None:
    """What the file says; None for an empty one, or one that a crash cut off."""
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None


def _job() -> tuple[str | None, int]:
    """What starts this process again by itself, and how often it has."""
    environment = os.environ
    if "SLURM_JOB_ID" in environment:
        return f"Slurm job {environment['SLURM_JOB_ID']}", int(environment.get("SLURM_RESTART_COUNT", "0"))
    run = environment.get("TORCHELASTIC_RUN_ID", "none")
    # torchrun's own name for a run without one is no name.
    return (None, 0) if run == "none" else (f"torchrun {run}", int(environment["TORCHELASTIC_RESTART_COUNT"]))
