"""Many items at a time: never more than allowed, none twice, and an error ends all."""

import asyncio
import itertools

import pytest

from megatron_mimo.platform.concurrency import for_each


def test_every_item_once_and_never_too_many_at_a_time() -> None:
    done: list[int] = []
    running, most = 0, 0

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(item % 3):
            await asyncio.sleep(0)
        running -= 1
        done.append(item)

    asyncio.run(for_each(range(50), work, at_a_time=4))
    assert sorted(done) == list(range(50)) and most == 4


def test_items_are_taken_only_when_there_is_a_place() -> None:
    """An endless iterable that ends by itself when enough is done."""
    taken: list[int] = []
    done: list[int] = []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    items = (taken.append(number) or number for number in itertools.count())
    asyncio.run(for_each(itertools.takewhile(lambda _: len(done) < 10, items), work, at_a_time=3))
    assert 10 <= len(done) <= 13 and len(taken) - len(done) <= 3


def test_the_first_error_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> None:
        if item == 2:
            raise ValueError("item 2")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(ValueError, match="item 2"):
        asyncio.run(for_each(range(10), work, at_a_time=4))
    assert sorted(cancelled) == [0, 1, 3]  # those that ran beside it; none was taken after it
