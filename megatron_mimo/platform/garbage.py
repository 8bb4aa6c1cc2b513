"""Python's garbage collector at moments that all ranks share."""

import gc
from types import TracebackType
from typing import Self


class SharedCollection:
    """`with SharedCollection(every_steps) as garbage:` around a training loop, `garbage.step_done()` after each step.

    By itself Python collects whenever a process has made enough objects, each rank at moments of its own, and every
    other rank waits for it in the next collective. Here all ranks collect after the same steps. What exists at the
    start (modules, the model) is not walked over again, nor at the collections that megatron-core asks for when it
    saves. With 0 steps everything stays as Python does it.
    """

    def __init__(self, every_steps: int) -> None:
        self._every_steps = every_steps
        self._steps = 0

    def __enter__(self) -> Self:
        if self._every_steps:
            gc.collect()
            gc.freeze()
            gc.disable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._every_steps:
            gc.enable()
            gc.unfreeze()

    def step_done(self) -> None:
        self._steps += 1
        if self._every_steps and self._steps % self._every_steps == 0:
            gc.collect()
