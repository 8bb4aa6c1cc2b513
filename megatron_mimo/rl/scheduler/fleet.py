"""The engines: seats given to requests, the oldest launch first; deaths, restarts, engines given up."""

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_mimo.config.rl import RetryConfig
from megatron_mimo.rl.engine_protocol import EngineDied, NoEngines, RolloutEngine

Priority = tuple[int, int]
"""(launch index, sample index): smaller is served first."""


@dataclass(eq=False)
class Berth:
    """An engine and how it is doing."""

    engine: RolloutEngine
    active: int = 0
    alive: bool = True
    lost: bool = False
    life: int = 0
    """Grows with every restart, so that late news of an old death does not count against a fresh engine."""
    deaths: int = 0
    """In a row, without a finished request in between."""

    @property
    def free(self) -> int:
        return self.engine.max_concurrent_requests - self.active if self.alive else 0


@dataclass(frozen=True)
class Seat:
    """Leave to run one request on an engine; give it back with `EngineFleet.release`."""

    berth: Berth
    life: int


class EngineFleet:
    """`seat = await fleet.acquire(priority)`, then `release(seat)`; `died(seat)` when the engine was lost."""

    def __init__(self, engines: Sequence[RolloutEngine], retry: RetryConfig) -> None:
        if not engines:
            raise ValueError("a fleet needs at least one engine")
        self._berths = [Berth(engine) for engine in engines]
        self._retry = retry
        self._waiting: list[tuple[Priority, int, asyncio.Future[Seat]]] = []
        self._numbers = itertools.count()
        self._restarts: set[asyncio.Task[None]] = set()

    @property
    def num_free(self) -> int:
        """Seats of live engines that nobody holds."""
        return sum(berth.free for berth in self._berths)

    async def acquire(self, priority: Priority) -> Seat:
        """A seat on the live engine with the fewest requests. Raises NoEngines when all are given up."""
        future: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._numbers), future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, seat: Seat) -> None:
        seat.berth.active -= 1
        self._serve()

    def succeeded(self, seat: Seat) -> None:
        """A request finished: earlier deaths are forgiven."""
        seat.berth.deaths = 0

    def died(self, seat: Seat) -> None:
        """The engine is gone: restart it in the background. Repeated news of the same death change nothing."""
        berth = seat.berth
        if berth.alive and berth.life == seat.life:
            berth.alive = False
            berth.deaths += 1
            task = asyncio.get_running_loop().create_task(self._restart(berth))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def _restart(self, berth: Berth) -> None:
        while berth.deaths <= self._retry.max_restarts:
            try:
                await asyncio.sleep(self._retry.pause_seconds(berth.deaths))
                await berth.engine.restart()
            except EngineDied:
                berth.deaths += 1
            else:
                berth.alive, berth.life = True, berth.life + 1
                break
        berth.lost = not berth.alive
        self._serve()

    def _serve(self) -> None:
        """Give free seats to those that wait."""
        if all(berth.lost for berth in self._berths):
            for _, _, future in self._waiting:
                if not future.done():
                    future.set_exception(NoEngines(f"all {len(self._berths)} engines died and did not come back"))
            self._waiting.clear()
        while self._waiting:
            if self._waiting[0][2].done():
                heapq.heappop(self._waiting)
                continue
            berth = max(self._berths, key=lambda berth: berth.free)
            if berth.free <= 0:
                return
            berth.active += 1
            heapq.heappop(self._waiting)[2].set_result(Seat(berth, berth.life))
