"""An asyncio event loop in virtual time: it never waits, its clock jumps to the next timer.

For simulations and tests: hours of rollout take seconds, and two runs of the same program take the same course. Real
input and output, threads and processes do not belong in it: their time is not this clock's.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: nothing would ever happen again."""


class JumpingSelector(selectors.SelectSelector):
    """Passes the time that a real one would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("all tasks wait for each other")
        self.now_seconds += max(0.0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`loop.time()`, `asyncio.sleep`, `asyncio.timeout` and `call_later` all run on the jumping clock."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)
        # Timers that are due within this of each other run in one go; the default is the real clock's resolution.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now_seconds


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on a VirtualTimeLoop that starts at second 0. Raises Deadlock where a real loop would hang."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
