"""The watchdog on processes that really hang."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megatron_mimo.training.watchdog import HANG_EXIT_CODE, Watchdog
from support.patience import patience, slowness

PROGRAM = """
import ctypes, sys, threading, time
from pathlib import Path
from megatron_mimo.training.watchdog import Watchdog

slowness = float(sys.argv[3])

def hang_in_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def hang_holding_the_interpreter():
    ctypes.PyDLL(None).sleep(int(60 * slowness))

def make_progress():
    for _ in range(12):
        time.sleep(0.1 * slowness)
        watchdog.beat()

def stand_still():
    print("ready", flush=True)
    for _ in range(4):
        time.sleep(0.1 * slowness)
        watchdog.beat()

def start_slowly():
    time.sleep(1.2 * slowness)
    watchdog.beat()
    watchdog.starting()
    time.sleep(1.2 * slowness)

def start_slowly_then_hang():
    start_slowly()
    watchdog.beat()
    hang_in_a_lock()

startup = float(sys.argv[4]) * slowness if len(sys.argv) > 4 else None
with Watchdog(0.5 * slowness, Path(sys.argv[1]), 3, startup, linger_seconds=0.0) as watchdog:
    globals()[sys.argv[2]]()
print("finished")
"""


def run(folder: Path, what: str, *startup: str, times: float = 1.0) -> subprocess.CompletedProcess[str]:
    """All its times are `times` as long."""
    command = [sys.executable, "-c", PROGRAM, str(folder), what, str(times), *startup]
    return subprocess.run(command, capture_output=True, text=True, timeout=patience(30) * times, check=False)


def test_a_hang_is_dumped_and_ended(tmp_path: Path) -> None:
    result = run(tmp_path / "stacks", "hang_in_a_lock")
    assert result.returncode == HANG_EXIT_CODE
    dump = (tmp_path / "stacks" / "rank_3.txt").read_text()
    assert "rank 3: no step was finished within 0.5 s" in dump
    assert "in hang_in_a_lock" in dump
    assert str(tmp_path / "stacks" / "rank_3.txt") in result.stderr
    assert "finished" not in result.stdout


def test_a_hang_that_holds_the_interpreter_lock_is_dumped_and_ended(tmp_path: Path) -> None:
    start = time.monotonic()
    result = run(tmp_path, "hang_holding_the_interpreter")
    assert result.returncode == 1
    assert time.monotonic() - start < patience(20)
    assert "in hang_holding_the_interpreter" in (tmp_path / "rank_3.txt").read_text()


def test_a_suspended_process_does_not_hang(tmp_path: Path) -> None:
    """As Slurm suspends a job, for longer than a step may take."""
    times = slowness()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "stacks"), "stand_still", str(times)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.7 * times)
        process.send_signal(signal.SIGCONT)
        output, errors = process.communicate(timeout=patience(30) * times)
    assert (process.returncode, output) == (0, "finished\n"), errors


def test_progress_keeps_the_process_alive_and_leaves_no_file(tmp_path: Path) -> None:
    """1.2 s of steps under a time-out of 0.5 s, or as much longer as this machine is slower."""
    result = run(tmp_path / "stacks", "make_progress", times=slowness())
    assert (result.returncode, result.stdout) == (0, "finished\n"), result.stderr
    assert list((tmp_path / "stacks").iterdir()) == []


@pytest.mark.parametrize("startup", ["60", "0"])
def test_a_start_is_no_hang(startup: str, tmp_path: Path) -> None:
    """1.2 s before the first step, and again before a later stage's, under a time-out of 0.5 s; 0 sets no limit."""
    result = run(tmp_path, "start_slowly", startup, times=slowness())
    assert (result.returncode, result.stdout) == (0, "finished\n"), result.stderr


def test_a_hang_after_a_start_is_a_hang(tmp_path: Path) -> None:
    result = run(tmp_path, "start_slowly_then_hang", "60")
    assert result.returncode == HANG_EXIT_CODE
    assert "within 0.5 s (guard.hang_timeout_seconds)" in result.stderr


def test_a_start_that_never_ends_is_a_hang(tmp_path: Path) -> None:
    result = run(tmp_path, "hang_in_a_lock", "1.5")
    assert result.returncode == HANG_EXIT_CODE
    assert "within 1.5 s (guard.startup_timeout_seconds)" in result.stderr


def test_a_folder_that_cannot_be_written_dumps_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text("a file where the folder should be")
    result = run(tmp_path / "stacks", "hang_in_a_lock")
    assert result.returncode == HANG_EXIT_CODE
    assert "in hang_in_a_lock" in result.stderr


@pytest.mark.parametrize("timeout_seconds", [0, 0.0])
def test_time_out_zero_switches_it_off(tmp_path: Path, timeout_seconds: float) -> None:
    with Watchdog(timeout_seconds, tmp_path, rank=0) as watchdog:
        watchdog.beat()
        assert not watchdog._thread.is_alive()
    assert list(tmp_path.iterdir()) == []
