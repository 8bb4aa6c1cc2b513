"""Asks for an orderly stop on SIGTERM, SIGUSR1 or SIGUSR2 (how Slurm, or a tool over it, announces pre-emption and the
time limit), on Ctrl-C, and when the run's own time limit is reached.

The handler only sets a flag; the loop asks once per step. Schedulers reach ranks at different moments, or only some of
them, so the ranks agree: one asked rank stops all after the same step.
"""

import math
import os
import signal
import time
from contextlib import AbstractContextManager, suppress
from types import FrameType, TracebackType
from typing import Self

import psutil
import torch
import torch.distributed as dist

from megatron_mimo.platform.signals import BY_HAND, end_by, handled

ECHO_SECONDS = 1.0
"""A terminal and a launcher may both pass on one Ctrl-C: what comes so soon after the first is the same one."""

STARTED_AT_VARIABLE = "MEGATRON_MIMO_STARTED_AT"
"""When the launcher of this rank started, by time.time(): ranks that it starts again are as old as the run."""
TIME_LIMIT, TIME_LIMIT_NUMBER = "time limit", 0.5
"""Below every signal's number: where a rank has received one, that counts."""


def run_started_at() -> float:
    """In seconds of time.time(): the start of the launcher, or without one of this process."""
    known = os.environ.get(STARTED_AT_VARIABLE)
    return float(known) if known else psutil.Process().create_time()


class PreemptionHandler:
    """`with PreemptionHandler() as preemption:` around the loop, in the main thread of every rank.

    A Ctrl-C after the first signal ends the process at once; so does the SIGTERM that a launcher makes of it.
    """

    def __init__(self, stop_after_seconds: float | None = None) -> None:
        """`stop_after_seconds`: age of the run at which this rank asks for a stop by itself."""
        self._deadline = math.inf if stop_after_seconds is None else run_started_at() + stop_after_seconds
        self.received: str | None = None
        """Name of the signal that reached this rank."""
        self.agreed: str | None = None
        """Name of the signal that stops all ranks, or TIME_LIMIT."""
        self._received_at = 0.0
        self._handled: AbstractContextManager[None] = handled(self._handle)

    def __enter__(self) -> Self:
        self._handled.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.__exit__(kind, error, trace)

    @property
    def by_hand(self) -> bool:
        """Whether a person stopped the run, not a scheduler that will start it again."""
        return self.agreed in BY_HAND

    def agreed_to_stop(self) -> bool:
        """True on every rank as soon as one rank was asked to stop. A collective: all ranks call it after each step."""
        number = float(signal.Signals[self.received]) if self.received else 0.0
        if not number and time.time() >= self._deadline:
            number = TIME_LIMIT_NUMBER
        if dist.is_available() and dist.is_initialized():
            flag = torch.tensor(number, device=_collective_device())
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            number = float(flag.item())
        if number:
            self.agreed = TIME_LIMIT if number == TIME_LIMIT_NUMBER else signal.Signals(int(number)).name
        return bool(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if self.received is None:
            self.received, self._received_at = name, now
            if os.environ.get("RANK", "0") == "0":
                again = "; Ctrl-C again stops at once, unsaved" if name == "SIGINT" else ""
                # os.write, because print is not safe where a signal interrupts another print.
                with suppress(OSError):
                    os.write(2, f"{name}: stopping after this step, then saving{again}\n".encode())
        elif name == "SIGINT" or (name == "SIGTERM" and self.received == "SIGINT"):
            if now - self._received_at >= ECHO_SECONDS:
                end_by(number)


def _collective_device() -> str:
    """gloo reduces on the CPU, which costs no synchronization with the GPU; NCCL knows the GPU alone."""
    return "cpu" if "gloo" in dist.get_backend() else "cuda"
