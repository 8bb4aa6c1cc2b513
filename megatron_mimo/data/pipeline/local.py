"""Worker processes on this machine: each takes a task at a time, and one that dies is noticed and replaced.

Workers are spawned, not forked: the caller may run threads (Ray, Arrow, a notebook), and a fork would copy their locks.
They live through all stages of a run, so the start (about half a second of imports) is paid once.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import run_task
from megatron_mimo.data.pipeline.outcome import StepOutcome
from megatron_mimo.data.pipeline.plan import stages_of

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class LocalExecutor:
    """`workers` processes; 0 runs the tasks in the calling process."""

    def __init__(self, config: PipelineConfig, workers: int) -> None:
        self.config, self.num_workers = config, workers
        self.workers: list[Worker] = []

    def run(self, stage: str, indices: Sequence[int]) -> Iterator[StepOutcome]:
        """Run these tasks of a stage; their outcomes as they come."""
        if self.num_workers == 0:
            here = TaskRunner(self.config)
            yield from (here.run(stage, index) for index in indices)
            return
        waiting = list(reversed(indices))
        for worker in self._ready_workers(min(self.num_workers, len(indices))):
            worker.start_task(stage, waiting.pop())
        while busy := [worker for worker in self.workers if worker.index is not None]:
            wait([worker.connection for worker in busy])
            for worker in busy:
                outcome = worker.outcome()
                if outcome is None:
                    continue
                if waiting:
                    self._replaced(worker).start_task(stage, waiting.pop())
                yield outcome

    def close(self) -> None:
        """End the workers, whatever they do: their unfinished tasks leave nothing."""
        for worker in self.workers:
            worker.stop()
        self.workers = []

    def _ready_workers(self, number: int) -> "list[Worker]":
        self.workers = [self._replaced(worker) for worker in self.workers]
        while len(self.workers) < number:
            self.workers.append(Worker(self.config))
        return self.workers[:number]

    def _replaced(self, worker: "Worker") -> "Worker":
        """The worker itself, or a new one in the place of one that died."""
        if worker.process.is_alive():
            return worker
        worker.connection.close()
        fresh = Worker(self.config)
        self.workers = [fresh if other is worker else other for other in self.workers]
        return fresh


class Worker:
    """One process and the pipe to it."""

    def __init__(self, config: PipelineConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, config), daemon=True)
        self.process.start()
        theirs.close()
        self.index: int | None = None

    def start_task(self, stage: str, index: int) -> None:
        self.index = index
        with contextlib.suppress(OSError):  # it died in this moment: outcome() says so
            self.connection.send((stage, index))

    def outcome(self) -> StepOutcome | None:
        """How the present task ended; None while it runs."""
        assert self.index is not None
        try:
            if not self.connection.poll():
                return None
            outcome: StepOutcome = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            crashed = code is not None and -code in CRASHES
            error = f"its process {self.process.pid} {_ending(code)}"
            outcome = StepOutcome(self.index, "crashed" if crashed else "died", error)
        self.index = None
        return outcome

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class TaskRunner:
    """Runs tasks in this process."""

    def __init__(self, config: PipelineConfig) -> None:
        self.layout = Layout.of(config.output_dir)
        self.stages = {stage.name: stage for stage in stages_of(config)}

    def run(self, stage: str, index: int) -> StepOutcome:
        """Run one task; every exception becomes an outcome."""
        try:
            run_task(self.stages[stage], index, self.layout)
        except UserError as error:
            return StepOutcome(index, "stopped", str(error))
        except Exception as error:
            return StepOutcome(index, "failed", f"{type(error).__name__}: {error}")
        return StepOutcome(index, "done")


def _work(connection: Connection, config: PipelineConfig) -> None:
    """A worker's life: tasks from the pipe until it is killed or the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runner: Any = None
    while True:
        try:
            stage, index = connection.recv()
        except (EOFError, OSError):
            return
        runner = runner or TaskRunner(config)
        connection.send(runner.run(stage, index))


def _end_with_parent() -> None:
    """A killed parent must not leave workers that write beside those of its next start."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ending(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed (SIGKILL: out of memory?)"
    if exit_code is not None and exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
