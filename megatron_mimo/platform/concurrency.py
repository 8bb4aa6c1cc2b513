"""Work on many items at a time within one event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_a_time: int) -> None:
    """Await `work` on every item, at most `at_a_time` of them at once.

    An item is taken from `items` only when there is a free place for it, so that endless and lazy iterables are fine,
    and one that ends early ends the work. The first error cancels the work on all other items and is raised.
    """
    queue = iter(items)

    async def take() -> None:
        for item in queue:
            await work(item)

    workers = [asyncio.create_task(take()) for _ in range(at_a_time)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
