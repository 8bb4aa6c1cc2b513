"""Ends a rank that makes no progress, and leaves the stacks of all its threads behind.

When one rank hangs, the others wait for it in a collective, run into their own watchdogs and dump as well: the rank
whose stack differs is the culprit. The exit code makes torchrun stop what is left of the job.

Reading and hashing a checkpoint, building data indices and compiling kernels are no hang: until a first step is
finished, the longer limit for starts holds. Neither is a time in which the whole process stood still: a scheduler
suspends jobs, and a person a program.
"""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

HANG_EXIT_CODE = 86
NO_LIMIT = 1e9
"""Seconds; faulthandler takes no infinity."""
INTERPRETER_TIMES = 2
"""The limit of faulthandler's timer, in those of a step: it cannot tell a suspended process from one that hangs."""


class Watchdog:
    """`with Watchdog(...) as watchdog:` around the loop, `watchdog.beat()` after every step and every save.

    `watchdog.starting()` goes before what takes long once: a checkpoint to load, a stage's first step.

    Two timers: a thread notices missing beats; faulthandler's timer, written in C, notices that the thread itself
    no longer runs because something holds the interpreter lock. The second can only exit with code 1.
    """

    def __init__(
        self,
        timeout_seconds: float,
        dump_path: Path,
        rank: int,
        startup_seconds: float | None = None,
        linger_seconds: float = 5.0,
    ) -> None:
        """Dump into the folder `dump_path` as `rank_N.txt`; a time-out of 0 switches the watchdog off.

        `startup_seconds` is the limit of a start with its first step; 0 is none, None the same as for a step. A rank
        stays `linger_seconds` after its dump, so that ranks a moment behind can dump before they are stopped.
        """
        self.timeout_seconds = timeout_seconds
        self.startup_seconds = timeout_seconds if startup_seconds is None else startup_seconds or NO_LIMIT
        self.path = dump_path / f"rank_{rank}.txt"
        self.rank = rank
        self.linger_seconds = linger_seconds
        self.starting()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self.timeout_seconds > 0:
            self._file = self._open_dump()
            self.starting()
            self._arm_interpreter_timer()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            if self.path.exists() and self.path.stat().st_size == 0:
                self.path.unlink()

    def beat(self) -> None:
        """A step was finished: the time-out starts anew."""
        self._last_beat, self._limit_seconds = time.monotonic(), self.timeout_seconds

    def starting(self) -> None:
        """What begins now, up to the next beat, may take as long as a start."""
        self._last_beat, self._limit_seconds = time.monotonic(), max(self.timeout_seconds, self.startup_seconds)

    def _watch(self) -> None:
        interval, woke_at = min(1.0, self.timeout_seconds / 10), time.monotonic()
        while not self._stop.wait(interval):
            now = time.monotonic()
            # When not even this thread ran, the process stood still: that is no step's time.
            self._last_beat += max(0.0, now - woke_at - interval)
            woke_at = now
            self._arm_interpreter_timer()
            if time.monotonic() - self._last_beat > self._limit_seconds:
                faulthandler.cancel_dump_traceback_later()
                self._dump_and_exit()

    def _arm_interpreter_timer(self) -> None:
        faulthandler.dump_traceback_later(INTERPRETER_TIMES * self._limit_seconds, exit=True, file=self._file)

    def _open_dump(self) -> TextIO:
        """The dump file, opened while all is well: a hang may be a file system that no longer answers."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self.path.open("a", encoding="utf-8")
        except OSError:
            return os.fdopen(os.dup(sys.stderr.fileno()), "w")

    def _dump_and_exit(self) -> None:
        setting = "hang_timeout_seconds" if self._limit_seconds == self.timeout_seconds else "startup_timeout_seconds"
        what = f"rank {self.rank}: no step was finished within {self._limit_seconds:g} s"
        try:
            self._file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {what}\n")
            self._file.flush()
            faulthandler.dump_traceback(file=self._file, all_threads=True)
        finally:
            print(
                f"{what} (guard.{setting}); stacks in {self.path}; exit code {HANG_EXIT_CODE}",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(self.linger_seconds)
            os._exit(HANG_EXIT_CODE)
