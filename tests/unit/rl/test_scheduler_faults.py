"""Deaths, judge faults, cancellation, crash and restore at random moments: no prompt lost, none counted twice."""

import asyncio
import json
import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from megatron_mimo.config.rl import RetryConfig
from megatron_mimo.rl.engine_protocol import Generation, GenerationRequest, RequestRejected, ScoringFailed
from megatron_mimo.rl.sample import Outcome, SampleGroup
from megatron_mimo.rl.scheduler.policy import ASYNCHRONOUS, NAIVE, POLICIES, SEAMLESS, STATIC, SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from rl_world import World, make_prompts, truth


def check_books(groups: list[SampleGroup], scheduler: RolloutScheduler, world: World) -> None:
    """Every launch ended once; every prompt was drawn as often as the order, less what was handed back, says."""
    assert [group.launch_index for group in groups] == list(range(scheduler.num_launched))
    assert Counter(group.outcome for group in groups) == scheduler.totals
    for group in groups:
        assert all(sample.reward in (None, truth(sample)) for sample in group.finished), "a fault was scored"
    state = world.prompts.state_dict()
    order = PromptOrder(world).order(state["epoch"])
    net: Counter[str] = Counter()
    for group in groups:
        if group.origin == "data":
            net[group.prompt.id] += 1
            handed_back = group.outcome in (Outcome.ABORTED, Outcome.SURPLUS)
            net[group.prompt.id] -= handed_back and not (group.complete and group.all_solved and world.alpha > 0)
    for identifier in state["returned"]:
        net[identifier] += 1
    if world.alpha == 0:
        passed = set(order[: state["position"]])
        assert net == Counter({i: n for i in order if (n := state["epoch"] + (i in passed))})
    assert not state["busy"] and len(set(state["pool"])) == len(state["pool"])
    assert state["counts"]["easy"] == sum(group.origin == "easy_pool" for group in groups)
    assert state["counts"]["draws"] == len(groups)


class PromptOrder:
    """The documented order of the data, computed again."""

    def __init__(self, world: World) -> None:
        self.ids, self.seed = sorted(prompt.id for prompt in make_prompts()), world.seed

    def order(self, epoch: int) -> list[str]:
        return random.Random(f"order {self.seed} {epoch}").sample(self.ids, len(self.ids))


async def disturbed_run(world: World, number: int, chaos: random.Random) -> tuple[list[RolloutBatch], RolloutScheduler]:
    """Collect `number` batches while engines die, collects are cancelled, and processes crash and are restored."""
    scheduler, batches = world.scheduler(), []
    while len(batches) < number:
        collecting = asyncio.create_task(scheduler.collect())
        while not collecting.done():
            await asyncio.wait([collecting], timeout=chaos.expovariate(1 / 12))
            if collecting.done():
                break
            event = chaos.choice(["kill", "kill", "restarts fail", "cancel", "crash", "nothing", "nothing"])
            if event == "kill":
                chaos.choice(world.engines).kill()
            elif event == "restarts fail":
                chaos.choice(world.engines).failing_restarts = 2
            elif event in ("cancel", "crash"):
                saved = json.loads(json.dumps(scheduler.state_dict())) if event == "crash" else None
                collecting.cancel()
                await asyncio.wait([collecting])
                if event == "crash" and collecting.cancelled():
                    scheduler = world.scheduler(saved)
                break
        if not collecting.cancelled():
            batches.append(collecting.result())
    return batches, scheduler


@pytest.mark.parametrize("policy", [SEAMLESS, ASYNCHRONOUS, NAIVE, STATIC], ids=lambda policy: policy.name)
@pytest.mark.parametrize("seed", range(6))
def test_random_disturbances(policy: SchedulingPolicy, seed: int) -> None:
    world = World(policy, seed=seed, alpha=0.0 if seed % 2 else 0.2)
    world.engine_fault_rate, world.reward_fault_rate = 0.05, 0.1

    async def main() -> tuple[list[RolloutBatch], RolloutScheduler]:
        return await disturbed_run(world, 5, random.Random(f"chaos {seed}"))

    batches, scheduler = run_in_virtual_time(main())
    assert all(len(batch.selected) == 8 for batch in batches)
    check_books([group for batch in batches for group in batch.groups], scheduler, world)


def test_the_disturbances_are_real() -> None:
    """The property test above is worth nothing if nothing happens in it."""
    world = World(SEAMLESS, seed=2)
    world.engine_fault_rate, world.reward_fault_rate = 0.05, 0.1
    batches, _ = run_in_virtual_time(disturbed_run(world, 5, random.Random("chaos 2")))
    samples = [sample for batch in batches for group in batch.groups for sample in group.finished]
    assert sum(sample.attempts > 1 for sample in samples) > 10
    assert {span.finished for batch in batches for span in batch.spans} == {True, False}


@pytest.mark.parametrize("policy", [SEAMLESS, NAIVE], ids=lambda policy: policy.name)
def test_a_restore_at_any_moment_gives_the_same_batch(policy: SchedulingPolicy) -> None:
    """First batch, undisturbed engines: content follows launch and index, so a crash must not show in it."""

    def content(batch: RolloutBatch) -> list[tuple]:
        return [(g.launch_index, g.prompt.id, [(s.tokens, s.reward) for s in g.finished]) for g in batch.selected]

    async def whole() -> RolloutBatch:
        return await World(policy).scheduler().collect()

    async def interrupted(moment: float) -> RolloutBatch:
        world = World(policy)
        scheduler = world.scheduler()
        collecting = asyncio.create_task(scheduler.collect())
        await asyncio.sleep(moment)
        saved = json.loads(json.dumps(scheduler.state_dict()))
        collecting.cancel()
        await asyncio.wait([collecting])
        return await world.scheduler(saved).collect()

    expected = run_in_virtual_time(whole())
    for part in range(20):
        batch = run_in_virtual_time(interrupted(expected.seconds * part / 20))
        assert content(batch) == content(expected)


def test_finished_samples_survive_a_restore() -> None:
    async def main() -> None:
        world = World(SEAMLESS)
        scheduler = world.scheduler()
        collecting = asyncio.create_task(scheduler.collect())
        await asyncio.sleep(8)
        saved = json.loads(json.dumps(scheduler.state_dict()))
        collecting.cancel()
        kept = {
            (entry["launch_index"], index): sample["generated_seconds"]
            for entry in saved["open_groups"]
            for index, sample in enumerate(entry["samples"])
            if sample is not None
        }
        assert kept
        batch = await world.scheduler(saved).collect()
        for (launch, index), seconds in kept.items():
            sample = batch.groups[launch].samples[index]
            assert sample is not None and sample.generated_seconds == seconds, "it was generated again"

    run_in_virtual_time(main())


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_reward_that_never_works_drops_the_group(policy: SchedulingPolicy) -> None:
    """A bad problem among good ones: dropped and listed, never in a batch, never scored."""
    world = World(policy, retry=RetryConfig(max_reward_attempts=3))

    async def main() -> list[RolloutBatch]:
        scheduler = world.scheduler()
        score, attempts = world.reward.score, Counter()

        async def picky(prompt, sample):
            if int(prompt.id) % 7 == 0:
                attempts[prompt.id] += 1
                raise ScoringFailed("no tests")
            return await score(prompt, sample)

        world.reward.score = picky
        batches = [await scheduler.collect() for _ in range(3)]
        assert attempts and scheduler.totals[Outcome.FAULTED] > 0
        return batches

    for batch in run_in_virtual_time(main()):
        assert len(batch.selected) == 8
        for group in batch.groups:
            if int(group.prompt.id) % 7 == 0:
                assert group.outcome in (Outcome.FAULTED, Outcome.ABORTED)
                assert not any(sample.scored for sample in group.finished)
            if group.outcome is Outcome.FAULTED:
                assert "no tests" in group.fault


def test_a_rejected_request_is_not_tried_again() -> None:
    world, tried = World(SEAMLESS), Counter()

    async def main() -> list[RolloutBatch]:
        scheduler = world.scheduler()
        for engine in world.engines:
            generate = engine.generate

            async def picky(request: GenerationRequest, generate=generate) -> Generation:
                if request.prompt.id == "011":
                    tried[request.id] += 1
                    raise RequestRejected("too long")
                return await generate(request)

            engine.generate = picky  # type: ignore[method-assign]
        return [await scheduler.collect() for _ in range(4)]

    batches = run_in_virtual_time(main())
    groups = [group for batch in batches for group in batch.groups if group.prompt.id == "011"]
    assert any(group.outcome is Outcome.FAULTED and "too long" in group.fault for group in groups)
    assert all(group.outcome in (Outcome.FAULTED, Outcome.ABORTED) for group in groups)
    assert all(identifier.endswith("/1") and number == 1 for identifier, number in tried.items())


def test_slow_requests_and_rewards_time_out() -> None:
    retry = RetryConfig(generation_timeout_seconds=6.0, reward_timeout_seconds=6.5, max_generation_attempts=2)
    world = World(SEAMLESS, retry=retry)
    batch = run_in_virtual_time(world.scheduler().collect())
    faults = [group.fault for group in batch.groups if group.outcome is Outcome.FAULTED]
    assert any("no answer in time" in fault for fault in faults)
    assert any("no reward in time" in fault for fault in faults)
    assert len(batch.selected) == 8


@pytest.mark.parametrize("reward", [float("inf"), float("-inf"), float("nan")])
def test_a_reward_that_is_no_finite_number_is_a_fault(reward: float) -> None:
    world = World(SEAMLESS, retry=RetryConfig(max_reward_attempts=2))

    async def main() -> RolloutBatch:
        scheduler, score = world.scheduler(), world.reward.score

        async def sometimes(prompt, sample):
            found = await score(prompt, sample)
            return replace(found, reward=reward) if int(prompt.id) % 7 == 0 else found

        world.reward.score = sometimes
        return await scheduler.collect()

    batch = run_in_virtual_time(main())
    assert all(math.isfinite(reward) for group in batch.selected for reward in group.rewards)
    assert any("no finite number" in group.fault for group in batch.groups)
