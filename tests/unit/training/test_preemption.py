"""Signals sent to a real process, one rank, without torch.distributed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from megatron_mimo.training.preemption import (
    ECHO_SECONDS,
    STARTED_AT_VARIABLE,
    TIME_LIMIT,
    PreemptionHandler,
    run_started_at,
)
from support.patience import patience

PROGRAM = """
import time
from megatron_mimo.training.preemption import PreemptionHandler
with PreemptionHandler() as preemption:
    print("ready", flush=True)
    steps = 0
    while not preemption.agreed_to_stop():
        time.sleep(0.01)
        steps += 1
    print("saved after", preemption.received, flush=True)
raise SystemExit(85)
"""


LONG_STEP = """
import time
from megatron_mimo.training.preemption import PreemptionHandler
with PreemptionHandler() as preemption:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_loop_in_order(number: signal.Signals) -> None:
    with started(PROGRAM) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=patience(30))
    assert process.returncode == 85
    assert output.decode() == f"saved after {number.name}\n"
    assert f"{number.name}: stopping after this step" in errors.decode()


def test_a_run_stops_at_its_own_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the launcher's start, so that ranks that it started again stop in time."""
    monkeypatch.delenv(STARTED_AT_VARIABLE, raising=False)
    assert abs(run_started_at() - psutil.Process().create_time()) < 1
    assert not PreemptionHandler(1e6).agreed_to_stop()
    assert not PreemptionHandler(None).agreed_to_stop()
    monkeypatch.setenv(STARTED_AT_VARIABLE, str(time.time() - 100))
    assert not PreemptionHandler(1000).agreed_to_stop()
    preemption = PreemptionHandler(99)
    assert preemption.agreed_to_stop()
    assert (preemption.agreed, preemption.by_hand) == (TIME_LIMIT, False)
    preemption.received = "SIGINT"
    assert preemption.agreed_to_stop() and preemption.by_hand


def test_a_second_ctrl_c_ends_a_step_that_takes_too_long() -> None:
    """What comes within a second of the first is its echo: a terminal and a launcher may both pass it on."""
    with started(LONG_STEP) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        time.sleep(ECHO_SECONDS + 0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in errors.decode() and "Ctrl-C again stops at once" in errors.decode()


def test_who_stopped_it() -> None:
    for number, by_hand in ((signal.SIGTERM, False), (signal.SIGUSR1, False), (signal.SIGINT, True)):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with PreemptionHandler() as preemption:
            os.kill(os.getpid(), number)
            assert preemption.agreed_to_stop() and preemption.by_hand == by_hand
        signal.signal(signal.SIGINT, before)


def started(program: str) -> subprocess.Popen[bytes]:
    """As a terminal starts it: a shell in the background would have it ignore SIGINT and SIGHUP."""

    def default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=default_signals
    )


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with PreemptionHandler() as preemption:
        assert not preemption.agreed_to_stop()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert preemption.agreed_to_stop()
        assert preemption.received == "SIGUSR1"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
