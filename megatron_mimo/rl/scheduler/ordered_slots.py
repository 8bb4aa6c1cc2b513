"""A semaphore whose free slot goes to the smallest priority that waits, not to the one that has waited longest."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Priority = tuple[int, int]
"""(launch index, sample index): smaller is served first."""


class OrderedSlots:
    """`async with slots.slot(priority): ...`, at most `number` of them at a time."""

    def __init__(self, number: int) -> None:
        if number < 1:
            raise ValueError(f"{number} slots: one at least is needed")
        self._free = number
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for a slot and hold it; cancelled while it waits, it gives back what it may just have got."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), future))
        self._serve()
        try:
            await future
            yield
        finally:
            if future.done() and not future.cancelled():
                self._free += 1
            self._serve()

    def _serve(self) -> None:
        while self._free and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():  # else its task was cancelled
                self._free -= 1
                future.set_result(None)
