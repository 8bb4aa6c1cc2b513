"""Programs that are stopped, as real processes: before there is anything to save, and children beside them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from support.processes import is_alive

STARTING = """
import time
from megatron_mimo.training.launch import run_program
def run(arguments):
    print("ready", flush=True)
    time.sleep(60)
    return 0
raise SystemExit(run_program("usage", run, ["config.yaml"]))
"""
PARENT = """
import multiprocessing, os, signal, time
from megatron_mimo.platform.signals import end_with_parent_process, signals_deferred
def child():
    end_with_parent_process()
    print(os.getpid(), flush=True)
    time.sleep(60)
with signals_deferred():
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
time.sleep(60)
"""


def as_in_a_terminal() -> None:
    """A shell in the background ignores SIGINT for what it starts; a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(program: str, prepare: Callable[[], None] = as_in_a_terminal) -> tuple[subprocess.Popen, str]:
    """The running program and the first line that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_stop_before_there_is_anything_to_save_is_one_line(number: signal.Signals) -> None:
    process, ready = start(STARTING)
    assert ready == "ready"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 85
    assert [line for line in errors.splitlines() if line] == [
        f"{number.name}: stopped, with nothing to save; the same command goes on"
    ]


def test_a_job_in_the_background_leaves_ctrl_c_to_others() -> None:
    process, _ = start(STARTING, prepare=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85


def test_a_helper_process_survives_signals_and_ends_with_its_parent() -> None:
    process, child = start(PARENT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        os.kill(int(child), number)
    time.sleep(0.3)
    assert is_alive(int(child))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while is_alive(int(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(int(child))
