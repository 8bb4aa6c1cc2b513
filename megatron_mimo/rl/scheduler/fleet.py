"""The engines: seats given to requests, the oldest launch first; deaths, hangs, restarts, engines given up.

A watch looks at the requests that run: those that take too long are ended, and an engine that finishes nothing counts
as dead (health.py). It runs only while there are requests.
"""

import asyncio
import operator
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from megatron_mimo.config.rl import RetryConfig
from megatron_mimo.rl.engine_protocol import EngineDied, GenerationFailed, NoEngines, RolloutEngine
from megatron_mimo.rl.scheduler.health import EngineRecord, FleetSpeed
from megatron_mimo.rl.scheduler.ordered_slots import Priority, WaitingLine

WATCH_SECONDS = (1.0, 30.0)
"""Shortest and longest time between two looks; in between, a quarter of a usual response's."""
SETTLED_RATIO = 4.0
"""An engine's earlier deaths are forgiven once it has lived for this many times what its restart took: one that comes
back only to die again costs more than it brings."""
Answer = TypeVar("Answer")


@dataclass(eq=False)
class Berth:
    """An engine and how it is doing."""

    engine: RolloutEngine
    record: EngineRecord
    speed: FleetSpeed
    active: int = 0
    alive: bool = True
    lost: bool = False
    life: int = 0
    """Grows with every restart, so that late news of an old death does not count against a fresh engine."""
    deaths: int = 0
    """In a row, without a settled life in between."""
    settled_seconds: float = 0.0
    """When its present life will have been long enough to forgive the deaths before it."""
    timeouts: int = 0
    """In a row."""
    pace: float = 0.0
    """Grows with every response of the others by one over their requests: what each request here should have done."""
    last_pace: float = 0.0
    """At its last finished response."""
    running: dict["Seat", "Running"] = field(default_factory=dict)
    load_seconds: float = 0.0
    """Its requests summed over time, up to `counted_seconds`."""
    counted_seconds: float = 0.0
    seats: int = 0
    """A slow engine's are fewer, one at least; by `count_seats`."""
    free: int = 0
    """Seats that nobody holds; none while it is dead. Kept up to date, because every launch looks at all engines."""

    def __post_init__(self) -> None:
        self.count_seats()

    def count_seats(self) -> None:
        """By the engine's speed as it is now known."""
        self.seats = max(1, round(self.engine.max_concurrent_requests * self.speed.share(self.record)))
        self.count_free()

    def count_free(self) -> None:
        self.free = max(0, self.seats - self.active) if self.alive else 0

    def count(self, change: int) -> None:
        """Requests more or fewer, from now on."""
        now = asyncio.get_running_loop().time()
        self.load_seconds += self.active * (now - self.counted_seconds)
        self.counted_seconds = now
        self.active += change
        self.count_free()


@dataclass(frozen=True)
class Running:
    """A request on an engine."""

    since: float
    pace: float
    """Of its berth when it began."""
    max_new_tokens: int
    ended: "asyncio.Future[Any]"
    """Gets the fault for which the fleet ends the request."""


@dataclass(frozen=True, eq=False)
class Seat:
    """Leave to run one request on an engine; give it back with `EngineFleet.release`."""

    berth: Berth
    life: int
    load_seconds: float = 0.0
    """Of the berth, when the request began."""


class EngineFleet:
    """`seat = await fleet.acquire(priority)`, then `release(seat)`; `died(seat)` when the engine was lost."""

    def __init__(self, engines: Sequence[RolloutEngine], retry: RetryConfig) -> None:
        if not engines:
            raise ValueError("a fleet needs at least one engine")
        self._speed = FleetSpeed(records=[EngineRecord(name=engine.name) for engine in engines])
        self._berths = [
            Berth(engine, record, self._speed) for engine, record in zip(engines, self._speed.records, strict=True)
        ]
        self._retry = retry
        self._watching: asyncio.Task[None] | None = None
        self._line: WaitingLine[Seat] = WaitingLine()
        self._restarts: set[asyncio.Task[None]] = set()

    @property
    def num_free(self) -> int:
        """Seats of live engines that nobody holds."""
        return sum(berth.free for berth in self._berths)

    async def acquire(self, priority: Priority) -> Seat:
        """A seat on the live engine with the fewest requests. Raises NoEngines when all are given up."""
        future = self._line.join(priority)
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    @property
    def load_cost(self) -> float:
        """How much of the engines' time further requests take from the others: 0 nothing, 1 all (LoadCost)."""
        return self._speed.load_cost.share

    def release(self, seat: Seat) -> None:
        seat.berth.count(-1)
        self._serve()

    async def run(self, seat: Seat, request: Awaitable[Answer], max_new_tokens: int) -> Answer:
        """The answer of a request. Raises GenerationFailed when it takes too long, EngineDied when its engine is lost
        meanwhile; an engine that died does not answer its other requests either."""
        loop = asyncio.get_running_loop()
        task, ended = asyncio.ensure_future(request), loop.create_future()
        seat.berth.running[seat] = Running(loop.time(), seat.berth.pace, max_new_tokens, ended)
        self._watch()
        try:
            limit = self._retry.generation_timeout_seconds
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED, timeout=limit)
            if task.done():
                return task.result()
            if not ended.done():
                ended.set_exception(GenerationFailed(f"no answer in time ({limit} s)"))
            try:
                return ended.result()
            except GenerationFailed:
                self._timed_out(seat)
                raise
        finally:
            del seat.berth.running[seat]
            if self._watching is not None and not any(berth.running for berth in self._berths):
                self._watching.cancel()
            if not ended.done():
                ended.cancel()
            elif not ended.cancelled():
                ended.exception()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def succeeded(self, seat: Seat, tokens: int, seconds: float) -> None:
        """A request finished: earlier time-outs are forgiven, and earlier deaths where the engine has settled."""
        berth = seat.berth
        berth.timeouts = 0
        if asyncio.get_running_loop().time() >= berth.settled_seconds:
            berth.deaths = 0
        berth.last_pace = berth.pace
        berth.count(0)
        load = (berth.load_seconds - seat.load_seconds) / seconds if seconds > 0 else None
        self._speed.note(berth.record, tokens, seconds, load)
        berth.count_seats()
        active = sum(one.active for one in self._berths)
        for other in self._berths:
            if other is not berth and other.alive:
                other.pace += 1 / max(1, active - other.active)

    def _timed_out(self, seat: Seat) -> None:
        berth = seat.berth
        if berth.life != seat.life or not berth.alive:
            return
        berth.timeouts += 1
        berth.record.timeouts += 1
        if berth.timeouts >= self._retry.max_timeouts:
            self.died(seat)

    def _watch(self) -> None:
        if self._watching is None or self._watching.done() or self._watching.cancelling():
            self._watching = asyncio.get_running_loop().create_task(self._look_after())

    async def _look_after(self) -> None:
        """End requests that take too long, and silent engines, while anything runs."""
        while any(berth.running for berth in self._berths):
            usual = self._speed.seconds / self._speed.finished if self._speed.finished else 0.0
            await asyncio.sleep(min(max(usual / 4, WATCH_SECONDS[0]), WATCH_SECONDS[1]))
            now = asyncio.get_running_loop().time()
            for berth in self._berths:
                berth.count_seats()
                self._look_at(berth, now)

    def _look_at(self, berth: Berth, now: float) -> None:
        oldest = max((now - running.since for running in berth.running.values()), default=0.0)
        overdue = [berth.pace - max(berth.last_pace, running.pace) for running in berth.running.values()]
        if berth.alive and self._speed.is_silent(overdue, oldest):
            berth.record.silences += 1
            self.died(Seat(berth, berth.life))
            return
        for running in list(berth.running.values()):
            limit = self._speed.timeout_seconds(running.max_new_tokens, self._retry)
            if now - running.since >= limit and not running.ended.done():
                running.ended.set_exception(GenerationFailed(f"no answer in time ({limit:.0f} s)"))

    def records(self) -> list[EngineRecord]:
        """How every engine is doing, since the start of the run."""
        for berth in self._berths:
            is_slow = self._speed.share(berth.record) < 1
            alive = "slow" if is_slow else "alive"
            berth.record.state = alive if berth.alive else "given up" if berth.lost else "restarting"
        return [replace(berth.record) for berth in self._berths]

    def died(self, seat: Seat) -> None:
        """The engine is gone: restart it in the background. Repeated news of the same death change nothing."""
        berth = seat.berth
        if berth.alive and berth.life == seat.life:
            berth.alive = False
            berth.count_free()
            berth.deaths += 1
            berth.record.deaths += 1
            for running in berth.running.values():
                if not running.ended.done():
                    running.ended.set_exception(EngineDied(f"{berth.engine.name} is lost"))
            berth.engine.abandon()
            task = asyncio.get_running_loop().create_task(self._restart(berth))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def _restart(self, berth: Berth) -> None:
        clock = asyncio.get_running_loop().time
        while berth.deaths <= self._retry.max_restarts:
            try:
                await asyncio.sleep(self._retry.pause_seconds(berth.deaths))
                started = clock()
                async with asyncio.timeout(self._retry.restart_timeout_seconds):
                    await berth.engine.restart()
            except (EngineDied, TimeoutError):
                berth.deaths += 1
                berth.record.deaths += 1
            else:
                berth.alive, berth.life, berth.timeouts, berth.last_pace = True, berth.life + 1, 0, berth.pace
                berth.settled_seconds = clock() + SETTLED_RATIO * (clock() - started)
                berth.record.restarts += 1
                self._speed.forget(berth.record)
                berth.count_seats()
                break
        berth.lost = not berth.alive
        self._serve()

    def _serve(self) -> None:
        """Give free seats to those that wait."""
        if all(berth.lost for berth in self._berths):
            while (future := self._line.first()) is not None:
                future.set_exception(NoEngines(f"all {len(self._berths)} engines died and did not come back"))
        while (future := self._line.first()) is not None:
            berth = max(self._berths, key=operator.attrgetter("free"))
            if berth.free <= 0:
                return
            berth.count(1)
            future.set_result(Seat(berth, berth.life, berth.load_seconds))
