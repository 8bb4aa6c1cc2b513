import asyncio
import time

import pytest

from megatron_mimo.rl.scheduler.virtual_time import Deadlock, run_in_virtual_time
from support.patience import patience


def test_hours_pass_at_once_and_in_order() -> None:
    seen: list[tuple[float, str]] = []

    async def wait(seconds: float, name: str) -> None:
        await asyncio.sleep(seconds)
        seen.append((asyncio.get_running_loop().time(), name))

    async def main() -> None:
        await asyncio.gather(wait(7200, "late"), wait(0.5, "early"), wait(3600, "middle"))

    start = time.perf_counter()
    run_in_virtual_time(main())
    assert time.perf_counter() - start < patience(2)
    assert [name for _, name in seen] == ["early", "middle", "late"]
    assert [moment for moment, _ in seen] == pytest.approx([0.5, 3600, 7200])


def test_timeouts_use_the_same_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await asyncio.sleep(101)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(100)


def test_a_hang_is_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_in_virtual_time(main())


def test_two_runs_are_the_same() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def worker(number: int) -> None:
            for _ in range(5):
                await asyncio.sleep((number * 7919 % 13) / 10)
                order.append(number)

        await asyncio.gather(*(worker(number) for number in range(20)))
        return order

    assert run_in_virtual_time(main()) == run_in_virtual_time(main())
