"""Processor sharing against closed forms and against decoding token by token."""

import asyncio
import random

import pytest

from megatron_mimo.config.rl import GenerationConfig
from megatron_mimo.rl.engine_protocol import EngineDied, Generation, GenerationRequest, Score
from megatron_mimo.rl.sample import Prompt, Sample
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.simulated_engine import DecodingSpeed, SimulatedEngine, SimulatedReward

SPEED = DecodingSpeed(weights_seconds=1.0, request_seconds=0.5)


def engine() -> SimulatedEngine:
    return SimulatedEngine(
        "e", lambda request: Generation(tokens=[0] * request.seed, logprobs=[0.0] * request.seed), SPEED
    )


def request(num_tokens: int) -> GenerationRequest:
    return GenerationRequest(id="r", prompt=Prompt(id="p"), settings=GenerationConfig(), seed=num_tokens)


async def end(machine: SimulatedEngine, arrival: float, num_tokens: int) -> float:
    await asyncio.sleep(arrival)
    generation = await machine.generate(request(num_tokens))
    assert len(generation.tokens) == num_tokens
    return asyncio.get_running_loop().time()


def test_alone_and_in_company() -> None:
    async def main() -> list[float]:
        machine = engine()
        return await asyncio.gather(end(machine, 0, 10), end(machine, 0, 20), end(machine, 100, 4))

    # Two together: 2 s a token until the shorter ends at 20 s; 10 tokens more alone at 1.5 s.
    assert run_in_virtual_time(main()) == pytest.approx([20, 35, 106])


def test_equals_small_steps() -> None:
    """Against an integration in steps of 5 ms."""
    generator = random.Random(3)
    jobs = [(generator.uniform(0, 30), generator.randrange(1, 25)) for _ in range(12)]

    async def main() -> list[float]:
        machine = engine()
        return await asyncio.gather(*(end(machine, arrival, tokens) for arrival, tokens in jobs))

    exact = run_in_virtual_time(main())
    left, ends, now = [float(tokens) for _, tokens in jobs], [0.0] * len(jobs), 0.0
    while not all(ends):
        active = [i for i, (arrival, _) in enumerate(jobs) if arrival <= now and not ends[i]]
        now += 0.005
        for i in active:
            left[i] -= 0.005 / (1.0 + 0.5 * len(active))
            if left[i] <= 0:
                ends[i] = now
    assert exact == pytest.approx(ends, abs=0.3)


def test_cancelling_frees_the_others() -> None:
    async def main() -> float:
        machine = engine()
        other = asyncio.create_task(end(machine, 0, 1000))
        mine = asyncio.create_task(end(machine, 0, 10))
        await asyncio.sleep(10)
        other.cancel()
        return await mine

    # 5 tokens in the first 10 s at 2 s each, the other 5 alone at 1.5 s.
    assert run_in_virtual_time(main()) == pytest.approx(17.5)


def test_death_and_restart() -> None:
    async def main() -> float:
        machine = engine()
        running = asyncio.create_task(end(machine, 0, 10))
        await asyncio.sleep(3)
        machine.kill()
        with pytest.raises(EngineDied):
            await running
        with pytest.raises(EngineDied):
            await machine.generate(request(1))
        await machine.restart()
        return await end(machine, 0, 2)

    assert run_in_virtual_time(main()) == pytest.approx(3 + 60 + 3)


@pytest.mark.parametrize(("workers", "seconds"), [(1, 10.0), (4, 3.0), (100, 1.0), (None, 1.0)])
def test_samples_queue_for_the_judges_workers(workers: int | None, seconds: float) -> None:
    """Ten samples of a second each."""

    async def main() -> float:
        reward = SimulatedReward(lambda *_: Score(reward=1.0, solved=True), lambda *_: 1.0, workers)
        sample = Sample(tokens=(1,), rollout_logprobs=(0.0,))
        await asyncio.gather(*(reward.score(Prompt(id="p"), sample) for _ in range(10)))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(seconds)
