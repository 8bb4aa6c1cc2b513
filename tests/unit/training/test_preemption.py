"""Signals sent to a real process, one rank, without torch.distributed."""

import os
import signal
import subprocess
import sys

import pytest

from megatron_mimo.training.preemption import PreemptionHandler
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_loop_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=patience(30))
    assert process.returncode == 85
    assert output.decode() == f"saved after {number.name}\n"
    assert f"{number.name}: stopping after this step" in errors.decode()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with PreemptionHandler() as preemption:
        assert not preemption.agreed_to_stop()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert preemption.agreed_to_stop()
        assert preemption.received == "SIGUSR1"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
