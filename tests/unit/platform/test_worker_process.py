"""A worker process answers, and what ends it costs one question."""

import os
import time
from collections.abc import Callable

import pytest

from megatron_mimo.platform import worker_process
from megatron_mimo.platform.worker_process import StartFailed, StartTimedOut, WorkerDied, WorkerProcess


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
