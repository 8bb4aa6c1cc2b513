"""Programs that are stopped, as real processes: before there is anything to save, and children beside them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.paths import environment
from support.patience import patience
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
READER_GONE = """
import sys, time
from megatron_mimo.training.launch import run_program
from megatron_mimo.training.preemption import PreemptionHandler
def run(arguments):
    with PreemptionHandler() as preemption:
        print("ready", flush=True)
        while not preemption.agreed_to_stop():
            print("step", flush=True)
            time.sleep(0.01)
    print("nobody reads that it was saved", flush=True)
    open(sys.argv[1], "w").write(str(preemption.received))
    return 85
raise SystemExit(run_program("usage", run, ["config.yaml"]))
"""
LOADER = """
import os, signal, sys, time
import numpy as np
from megatron_mimo.config import DataConfig
from megatron_mimo.data.loading.loader import build_loader
class Numbers:
    def __getitem__(self, index):
        return {"tokens": np.full(4, index), "source": 0}
batches = build_loader(Numbers(), [[index] for index in range(1000)], DataConfig(path="", tokenizer="", num_workers=2))
next(batches)
workers = [process.pid for process in __import__("multiprocessing").active_children()]
print(*workers, flush=True)
sys.stdin.readline()
print(int(next(batches)["tokens"][0, 0]), flush=True)
raise SystemExit(3)
"""


def as_in_a_terminal() -> None:
    """A shell in the background ignores SIGINT for what it starts; a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(
    program: str, *arguments: str, prepare: Callable[[], None] = as_in_a_terminal
) -> tuple[subprocess.Popen, str]:
    """The running program and the first line that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
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
        f"{number.name}: stopped, with nothing to save; the same command continues"
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


def test_a_run_whose_output_nobody_reads_saves_and_stops(tmp_path: Path) -> None:
    """As `... | tee log` under Ctrl-C, which ends tee first."""
    process, ready = start(READER_GONE, str(tmp_path / "saved"))
    assert ready == "ready" and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=patience(60)) == 85, errors
    assert (tmp_path / "saved").read_text() == "SIGHUP"
    assert "BrokenPipe" not in errors


def test_loaders_hear_their_parent_alone() -> None:
    """Signals of others leave them working, and a rank that ends while they work does not wait for them."""
    process, workers = start(LOADER)
    assert len(workers.split()) == 2
    for worker in map(int, workers.split()):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(worker, number)
    time.sleep(0.5)
    assert all(is_alive(int(worker)) for worker in workers.split())
    output, errors = process.communicate("go on\n", timeout=patience(60))
    assert (process.returncode, output) == (3, "1\n"), errors
    assert "killed" not in errors
    assert not any(is_alive(int(worker)) for worker in workers.split())


HELPER = """
import multiprocessing, time
from megatron_mimo.platform.signals import hear_parent_alone, signals_deferred
def helper(ready):
    hear_parent_alone()
    ready.set()
    time.sleep(60)
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=helper, args=(ready,), daemon=True)
    with signals_deferred():
        process.start()
    ready.wait()
    print("leaving", flush=True)  # Python ends its daemons at exit, and waits for them
"""


def test_a_helper_of_a_fork_server_ends_with_the_program(tmp_path: Path) -> None:
    """It hears the program, not the server: otherwise the program would wait for it for ever."""
    (tmp_path / "program.py").write_text(HELPER)
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(30), env=environment())
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr
