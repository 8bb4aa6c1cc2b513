import asyncio

import pytest

from megatron_mimo.rl.scheduler.ordered_slots import OrderedSlots
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time


def course(number: int, arrivals: list[tuple[float, int]], cancelled: tuple[int, ...] = ()) -> list[tuple[int, float]]:
    """(launch, begin) in the order of begins; each holds its slot for 10 seconds, `cancelled` are ended at 5 s."""
    begun: list[tuple[int, float]] = []

    async def one(slots: OrderedSlots, at: float, launch: int) -> None:
        await asyncio.sleep(at)
        async with slots.slot((launch, 0)):
            begun.append((launch, asyncio.get_running_loop().time()))
            await asyncio.sleep(10)

    async def main() -> None:
        slots, loop = OrderedSlots(number), asyncio.get_running_loop()
        tasks = {launch: asyncio.create_task(one(slots, at, launch)) for at, launch in arrivals}
        for launch in cancelled:
            loop.call_later(5, tasks[launch].cancel)
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    run_in_virtual_time(main())
    first = begun[0][1]
    return [(launch, round(at - first)) for launch, at in begun]


def test_the_oldest_launch_is_served_first() -> None:
    assert course(1, [(0, 9), (1, 7), (2, 3), (3, 5)]) == [(9, 0), (3, 10), (5, 20), (7, 30)]
    assert course(2, [(0, 9), (1, 7), (2, 3), (3, 5)]) == [(9, 0), (7, 1), (3, 10), (5, 11)]


def test_a_cancelled_one_neither_keeps_nor_loses_a_slot() -> None:
    waiting = course(1, [(0, 9), (1, 3), (2, 5)], cancelled=(3,))
    assert waiting == [(9, 0), (5, 10)]
    holding = course(1, [(0, 9), (1, 3), (2, 5)], cancelled=(9,))
    assert holding == [(9, 0), (3, 5), (5, 15)]


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="one at least"):
        OrderedSlots(0)
