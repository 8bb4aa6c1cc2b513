"""Asks for an orderly stop on SIGTERM or SIGUSR1 (how Slurm announces pre-emption and the time limit).

The handler only sets a flag; the loop asks once a step. Schedulers reach ranks at different moments, or only some of
them, so the ranks agree: one asked rank stops all after the same step.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Start child processes deaf to SIGNALS: Slurm signals every process of a step, and a checkpoint writer must live.

    A blocked signal stays blocked in children, whereas a handler is lost in those that exec.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class PreemptionHandler:
    """`with PreemptionHandler() as preemption:` around the loop, in the main thread of every rank."""

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal that reached this rank."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed_to_stop(self) -> bool:
        """True on every rank as soon as one rank was asked to stop. A collective: all ranks call it after each step."""
        if not (dist.is_available() and dist.is_initialized()):
            return self.received is not None
        flag = torch.tensor(float(self.received is not None), device=_collective_device())
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        # os.write, because print is not safe where a signal interrupts another print.
        os.write(2, f"process {os.getpid()}: {self.received}: stopping after this step\n".encode())


def _collective_device() -> str:
    """gloo reduces on the CPU, which costs no synchronization with the GPU; NCCL knows the GPU alone."""
    return "cpu" if "gloo" in dist.get_backend() else "cuda"
