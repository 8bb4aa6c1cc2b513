"""Those that wait are served by priority, not by age: a line of futures, and a semaphore with such a line."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Priority = tuple[int, int]
"""(launch index, sample index): smaller is served first."""
Thing = TypeVar("Thing")


class WaitingLine(Generic[Thing]):
    """Futures of those that wait; one that gets its result, or whose task is cancelled, has left the line."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Priority, int, asyncio.Future[Thing]]] = []
        self._numbers = itertools.count()

    def join(self, priority: Priority) -> "asyncio.Future[Thing]":
        """A new future in the line."""
        future: asyncio.Future[Thing] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), future))
        return future

    def first(self) -> "asyncio.Future[Thing] | None":
        """The one to be served next; it stays in the line until it is done."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return self._waiting[0][2] if self._waiting else None


class OrderedSlots:
    """`async with slots.slot(priority): ...`, at most `number` of them at a time."""

    def __init__(self, number: int) -> None:
        if number < 1:
            raise ValueError(f"{number} slots: one at least is needed")
        self._free = number
        self._line: WaitingLine[None] = WaitingLine()

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for a slot and hold it; cancelled while it waits, it gives back what it may just have got."""
        future = self._line.join(priority)
        self._serve()
        try:
            await future
            yield
        finally:
            if future.done() and not future.cancelled():
                self._free += 1
            self._serve()

    def _serve(self) -> None:
        while self._free and (future := self._line.first()) is not None:
            self._free -= 1
            future.set_result(None)
