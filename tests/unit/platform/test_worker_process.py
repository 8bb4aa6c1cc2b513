"""A worker process answers, and what ends it costs one question."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from megatron_mimo.platform import worker_process
from megatron_mimo.platform.worker_process import StartFailed, StartTimedOut, WorkerDied, WorkerProcess, end_with_parent
from support.patience import patience
from support.processes import is_alive


def obey(question: str) -> str:
    if question == "hang":
        time.sleep(60)
    if question == "die":
        os._exit(1)
    return question.upper()


def prepare() -> Callable[[str], str]:
    return obey


def prepare_in_vain() -> Callable[[str], str]:
    os._exit(1)


def test_a_process_that_hangs_or_dies_is_replaced() -> None:
    worker = WorkerProcess(prepare)
    try:
        assert worker.answer("a", 60.0) == "A"
        assert worker.answer("hang", 0.2) is None
        assert worker.answer("b", 60.0) == "B"
        with pytest.raises(WorkerDied):
            worker.answer("die", 60.0)
        assert worker.answer("c", 60.0) == "C"
    finally:
        worker.close()


def test_a_start_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartFailed, match="ended before it was ready"):
        WorkerProcess(prepare_in_vain).answer("a", 60.0)
    monkeypatch.setattr(worker_process, "START_SECONDS", 0.0)
    with pytest.raises(StartTimedOut):
        WorkerProcess(prepare).answer("a", 60.0)


def sleep_as_child(pipe: Connection) -> None:
    end_with_parent()
    pipe.send(os.getpid())
    time.sleep(600)


def start_a_child(pipe: Connection) -> None:
    multiprocessing.get_context("spawn").Process(target=sleep_as_child, args=(pipe,)).start()
    time.sleep(600)


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("spawn").Process(target=start_a_child, args=(theirs,))
    parent.start()
    child = ours.recv()
    os.kill(parent.pid or 0, signal.SIGKILL)
    parent.join()
    end = time.monotonic() + patience(30)
    while is_alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(child)
