"""Engines that hang, crawl, flap or never come back: the run goes on, soon; every group ends exactly once."""

import asyncio
from collections import Counter

import pytest

from megatron_mimo.config.rl import RetryConfig
from megatron_mimo.rl.engine_protocol import Generation, GenerationRequest
from megatron_mimo.rl.sample import Outcome
from megatron_mimo.rl.scheduler.health import EngineRecord, FleetSpeed, LoadCost
from megatron_mimo.rl.scheduler.policy import SEAMLESS
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.simulated_engine import DecodingSpeed
from rl_world import FaultyEngine, World

STEPS = 4


def silent(engine: FaultyEngine) -> None:
    """Takes requests and never answers, restarted or not."""

    async def never(_: GenerationRequest) -> Generation:
        await asyncio.Event().wait()
        raise AssertionError

    engine.generate = never  # type: ignore[method-assign]


def hangs_later(engine: FaultyEngine) -> None:
    """Answers twenty requests, then hangs until it is restarted."""
    generate, restart, answered = engine.generate, engine.restart, Counter()

    async def some(request: GenerationRequest) -> Generation:
        answered["requests"] += 1
        if answered["requests"] > 20 and not answered["restarts"]:
            await asyncio.Event().wait()
        return await generate(request)

    async def counted() -> None:
        await restart()
        answered["restarts"] += 1

    engine.generate, engine.restart = some, counted  # type: ignore[method-assign]


def slow(engine: FaultyEngine) -> None:
    """Ten times slower than the others."""
    engine._speed = DecodingSpeed(weights_seconds=0.5, request_seconds=0.1)


def flapping(engine: FaultyEngine) -> None:
    """Dies whenever it has run for ten seconds."""

    async def kills() -> None:
        while True:
            await asyncio.sleep(10)
            engine.kill()

    engine.task = asyncio.get_running_loop().create_task(kills())  # type: ignore[attr-defined]


def never_back(engine: FaultyEngine) -> None:
    """Hangs, and its restart hangs as well."""
    silent(engine)
    engine.restart = lambda: asyncio.Event().wait()  # type: ignore[method-assign, assignment, return-value]


def dead_for_ever(engine: FaultyEngine) -> None:
    """Dies, and every restart fails."""
    engine.kill()
    engine.failing_restarts = 10**6


TROUBLES = {
    "silent": silent,
    "hangs later": hangs_later,
    "slow": slow,
    "flapping": flapping,
    "never back": never_back,
    "dead": dead_for_ever,
}


def run(num_engines: int, trouble=None, steps: int = STEPS) -> tuple[list[RolloutBatch], RolloutScheduler]:
    retry = RetryConfig(max_generation_attempts=20, restart_timeout_seconds=120, max_restarts=3)
    world = World(SEAMLESS, num_engines=num_engines, num_groups=16, retry=retry, latency_seconds=1.0)

    async def main() -> tuple[list[RolloutBatch], RolloutScheduler]:
        scheduler = world.scheduler()
        if trouble is not None:
            trouble(world.engines[-1])
        return [await scheduler.collect() for _ in range(steps)], scheduler

    return run_in_virtual_time(main())


@pytest.fixture(scope="module")
def without() -> float:
    """Seconds of the steps with three sound engines."""
    batches, _ = run(3)
    return sum(batch.seconds for batch in batches)


@pytest.mark.parametrize("name", TROUBLES)
def test_the_run_goes_on(name: str, without: float) -> None:
    batches, scheduler = run(4, TROUBLES[name])
    groups = [group for batch in batches for group in batch.groups]
    assert [group.launch_index for group in groups] == list(range(scheduler.num_launched))
    assert Counter(group.outcome for group in groups) == scheduler.totals
    assert scheduler.totals[Outcome.FAULTED] == 0
    assert all(len(batch.selected) == 16 for batch in batches)
    seconds = sum(batch.seconds for batch in batches)
    assert seconds <= 1.3 * without, f"{seconds:.0f} s against {without:.0f} s without the engine"
    bad = batches[-1].engines[-1]
    sound = batches[-1].engines[:-1]
    assert all(one.deaths == one.timeouts == 0 and one.state == "alive" for one in sound)
    assert bad.state != "alive" or bad.deaths > 0


def test_sound_engines_are_left_alone() -> None:
    batches, _ = run(4)
    for engine in batches[-1].engines:
        assert (engine.state, engine.timeouts, engine.silences, engine.deaths) == ("alive", 0, 0, 0)
        assert engine.finished > 20


def test_timeouts_follow_the_measured_speed() -> None:
    records = [EngineRecord(name=name) for name in "abc"]
    speed, retry = FleetSpeed(records=records), RetryConfig(min_generation_timeout_seconds=1)
    assert speed.timeout_seconds(32_768, retry) == pytest.approx(32_768 / 5)
    for record, rate in zip(records, (100, 50, 10), strict=True):
        speed.note(record, 1000, 1000 / rate)
    assert speed.timeout_seconds(32_768, retry) == pytest.approx(3 * 32_768 / 50)
    assert speed.timeout_seconds(32_768, RetryConfig(generation_timeout_seconds=7)) == 7
    assert [speed.share(record) for record in records] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("weights", "request_"), [(0.005, 0.0), (0.005, 0.0002), (0.0, 0.0005)])
def test_the_cost_of_load_is_found_from_the_responses(weights: float, request_: float) -> None:
    """Against the engine's own law: the share of a decoding step that grows with the load."""
    cost, loads = LoadCost(), [5.0 + n % 40 for n in range(200)]
    for number, load in enumerate(loads, start=1):
        cost.note(load, weights + load * request_)
        assert number >= 30 or cost.share == 1.0
    mean = sum(loads) / len(loads)
    assert cost.share == pytest.approx(request_ * mean / (weights + request_ * mean), abs=0.02)
    steady = LoadCost()
    for _ in range(200):
        steady.note(16.0, 0.01)
    assert steady.share == 1.0, "one load alone says nothing"


def test_a_scheduler_measures_what_load_costs() -> None:
    """The engines of the tests take 0.05 s per step and 0.01 s per request: of twelve, 0.7."""

    async def main() -> float:
        world = World(SEAMLESS, num_engines=2, num_groups=16)
        scheduler = world.scheduler()
        for _ in range(3):
            await scheduler.collect()
        assert scheduler.load_cost >= scheduler._fleet.load_cost
        return scheduler._fleet.load_cost

    assert run_in_virtual_time(main()) == pytest.approx(0.7, abs=0.15)


def test_an_engine_that_flaps_is_given_up() -> None:
    """Though it finishes requests between its deaths; one that lives on begins anew."""
    batches, _ = run(4, flapping, steps=12)
    assert batches[-1].engines[-1].state == "given up"
    assert batches[-1].engines[-1].finished > 0


def test_a_dead_engine_takes_its_requests_with_it() -> None:
    """An engine counted as dead by time-outs ends what still waits on it, though it never says so itself."""

    async def main() -> int:
        world = World(SEAMLESS, num_engines=2, retry=RetryConfig(generation_timeout_seconds=40, max_timeouts=1))
        scheduler, ended = world.scheduler(), Counter()
        generate = world.engines[0].generate

        async def hangs(request: GenerationRequest) -> Generation:
            if request.id.endswith("/1"):
                try:
                    await asyncio.Event().wait()
                finally:
                    ended["requests"] += 1
            return await generate(request)

        world.engines[0].generate = hangs  # type: ignore[method-assign]
        batch = await scheduler.collect()
        assert batch.engines[0].deaths >= 1
        return ended["requests"]

    assert run_in_virtual_time(main()) > 1
