"""A process that answers questions one at a time: one that hangs is killed, one that is gone is replaced when asked."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

START_SECONDS = 120.0
"""A new process imports its libraries before it can answer."""
READY = "ready"
WALL_PER_PROCESSOR_SECOND = 30.0
"""Clock time that a process may take per second of processor time before it counts as gone."""
POLL_SECONDS = 0.2


class WorkerDied(Exception):
    """The process ended over a question."""


class StartFailed(RuntimeError):
    """The process ended before it was ready."""


class StartTimedOut(StartFailed):
    """The process was not ready in time, and was killed."""


class WorkerProcess:
    """Runs `prepare()`, then the function that it returns on each question; not for use by two threads at once."""

    def __init__(self, prepare: Callable[[], Callable[[Any], Any]]) -> None:
        """prepare: called in the process, so it can be pickled; it imports what its time must not count against."""
        self._prepare = prepare
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def answer(self, question: Any, limit_seconds: float, *, of_processor: bool = False) -> Any:
        """The answer, or None after the time limit; raises WorkerDied, or StartFailed for a new process.

        of_processor: the limit counts the process's processor time. One that gets none for WALL_PER_PROCESSOR_SECOND
        times the limit is given up as WorkerDied.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send(question)
            if self._poll_processor(pipe, limit_seconds) if of_processor else pipe.poll(limit_seconds):
                return pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise WorkerDied(f"a worker process died: {error}") from error
        self.close()
        return None

    def _poll_processor(self, pipe: Connection, limit_seconds: float) -> bool:
        """Whether an answer came before the process had used its processor time."""
        assert self._process is not None and self._process.pid is not None
        used = processor_seconds(self._process.pid)
        end = time.monotonic() + WALL_PER_PROCESSOR_SECOND * limit_seconds
        while not pipe.poll(POLL_SECONDS):
            if processor_seconds(self._process.pid) - used > limit_seconds:
                return False
            if time.monotonic() > end:
                raise OSError(
                    f"no {limit_seconds:g} s of processor time in {WALL_PER_PROCESSOR_SECOND * limit_seconds:.0f} s"
                )
        return True

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        # Spawned: a fork would copy locks that other threads hold.
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, self._prepare), daemon=True)
        self._process.start()
        far_end.close()
        try:
            if self._pipe.poll(START_SECONDS) and self._pipe.recv() == READY:
                return self._pipe
        except (EOFError, OSError) as error:
            self.close()
            raise StartFailed("a worker process ended before it was ready") from error
        self.close()
        raise StartTimedOut(f"a worker process did not start within {START_SECONDS:.0f} s")


def processor_seconds(pid: int) -> float:
    """Processor time of a process over all its threads; 0 where it is gone. Linux forms the clock from the pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _serve(pipe: Connection, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """The process: answers until its owner is gone."""
    answer = prepare()
    pipe.send(READY)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        pipe.send(answer(question))


def end_with_parent() -> None:
    """Called in a spawned process: makes it end as soon as the process that started it has, however that one ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
