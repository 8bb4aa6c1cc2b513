"""What a program does when it is asked to stop: Ctrl-C, a terminal that is gone, SIGTERM or SIGUSR1/2 of a scheduler.

While there is nothing to save, a stop signal ends the program at once (`stopped_at_once`, class Stopped); the training
loop takes over with training/preemption.py. No torch here: programs enter this before they import anything slow.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
BY_HAND = ("SIGINT", "SIGHUP")
"""Sent by a person at a terminal, who does not want the scheduler to start the run again."""
STOPPED_EXIT_CODE = 85
"""Stopped on request and nothing lost: the same command continues."""
PR_SET_PDEATHSIG = 1
Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A stop signal, named by the message, came while there was nothing to save."""

    exit_code = STOPPED_EXIT_CODE


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """`handler` answers the stop signals inside the context, in the main thread.

    SIGINT and SIGHUP stay ignored where whoever started the program ignores them: nohup, jobs in the background.
    """
    kept = [number for number in STOP_SIGNALS if not (number.name in BY_HAND and _is_ignored(number))]
    previous = {number: signal.signal(number, handler) for number in kept}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """A stop signal raises Stopped inside the context."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    with handled(stop):
        # A launcher may have started this process deaf, so that no signal comes before there is somebody to hear it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        yield


def ignore_stop_signals() -> None:
    """From here on, until the enclosing context puts its handlers back: everything is saved, the program is leaving."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_by(number: int) -> None:
    """End this process as the signal does by default; what it started ends with it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Start children that ignore the stop signals: schedulers and terminals signal every process, and a checkpoint
    writer or data loader must live until its rank is done.

    A blocked signal stays blocked in children, whereas a handler is lost in those that exec.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_parent_alone() -> None:
    """In a process that was started deaf: end on the SIGTERM of the process that asked for it, with which Python ends
    helpers that it leaves behind, and on nobody else's. A fork server stands between the two."""
    asked_for_by = multiprocessing.parent_process()
    parent = asked_for_by.pid if asked_for_by else os.getppid()

    def listen() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=listen, name="hear-parent", daemon=True).start()


def end_with_parent_process() -> None:
    """Have the kernel kill this process when the one that started it ends, however that one ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
