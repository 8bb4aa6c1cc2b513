"""The rollout scheduler in virtual time: what each policy launches, waits for, selects; its books."""

import asyncio
import math
import statistics
from dataclasses import replace

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import RetryConfig
from megatron_mimo.rl.engine_protocol import GenerationRequest, NoEngines
from megatron_mimo.rl.sample import Outcome
from megatron_mimo.rl.scheduler.ledger import StepLedger, SurvivalEstimate
from megatron_mimo.rl.scheduler.policy import (
    ASYNCHRONOUS,
    CONTINUOUS,
    FIRST_FINISHED,
    NAIVE,
    POLICIES,
    SEAMLESS,
    STATIC,
    SchedulingPolicy,
    groups_for,
)
from megatron_mimo.rl.scheduler.scheduler import BatchNotFilled, RolloutBatch
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from rl_world import World, make_prompts, respond, truth


def collect(world: World, number: int = 1) -> list[RolloutBatch]:
    async def main() -> list[RolloutBatch]:
        scheduler = world.scheduler()
        batches = [await scheduler.collect() for _ in range(number)]
        assert scheduler.num_open == 0
        assert sum(scheduler.totals.values()) == scheduler.num_launched == sum(len(batch.groups) for batch in batches)
        return batches

    return run_in_virtual_time(main())


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_policy_fills_its_batches(policy: SchedulingPolicy) -> None:
    world = World(policy)
    launches = 0
    for batch in collect(world, 4):
        assert len(batch.selected) == 8
        assert [group.launch_index for group in batch.groups] == list(range(launches, launches + len(batch.groups)))
        launches += len(batch.groups)
        assert all(group.outcome is not None for group in batch.groups)
        assert [group for group in batch.groups if group.outcome is Outcome.SELECTED] == sorted(
            batch.selected, key=lambda group: group.launch_index
        )
        for group in batch.groups:
            assert group.outcome is not Outcome.FAULTED
            assert all(sample.reward in (None, truth(sample)) for sample in group.finished)
            assert group.complete or group.outcome is Outcome.ABORTED
        if policy.dynamic_sampling:
            assert all(0 < group.pass_rate < 1 for group in batch.selected)
    assert world.reward.num_scored >= 4 * 8 * 4


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_two_runs_take_the_same_course(policy: SchedulingPolicy) -> None:
    assert collect(World(policy), 3) == collect(World(policy), 3)


def test_first_in_first_out_selects_what_an_unhurried_run_would() -> None:
    """The batch is the first B usable launches, computed here from everything that was launched."""
    for seed in range(5):
        (batch,) = collect(World(SEAMLESS, seed=seed, alpha=0.0))
        (unhurried,) = collect(World(replace(NAIVE, round_ratio=4.0), seed=seed, alpha=0.0))
        assert [group.prompt.id for group in batch.selected] == [group.prompt.id for group in unhurried.selected]
        assert [[s.tokens for s in g.finished] for g in batch.selected] == [
            [s.tokens for s in g.finished] for g in unhurried.selected
        ]
        last = batch.selected[-1].launch_index
        assert all(group.complete for group in batch.groups if group.launch_index < last)
        # ... and not a moment later than the last of them.
        assert batch.end_seconds == max(g.completed_seconds or 0 for g in batch.groups if g.launch_index <= last)


def test_static_takes_one_batch_unfiltered() -> None:
    (batch,) = collect(World(STATIC))
    assert len(batch.groups) == 8 and batch.waste_ratio == 0
    assert any(not group.has_signal for group in batch.selected)


def test_naive_runs_rounds_with_a_barrier() -> None:
    (batch,) = collect(World(NAIVE))
    assert len(batch.groups) % 8 == 0 and len(batch.groups) > 8
    for first in range(0, len(batch.groups), 8):
        samples = [sample for group in batch.groups[first : first + 8] for sample in group.finished]
        generated = max(sample.generated_seconds for sample in samples)
        starts = [
            span.start_seconds for span in batch.spans if span.kind == "reward" and span.launch_index // 8 == first // 8
        ]
        assert min(starts) >= generated
        following = [group.launched_seconds for group in batch.groups[first + 8 :]]
        assert min(following, default=float("inf")) >= max(sample.scored_seconds or 0 for sample in samples)


def test_rewards_overlap_generation_and_are_bounded() -> None:
    def most_at_once(batch: RolloutBatch) -> int:
        spans = [span for span in batch.spans if span.kind == "reward"]
        return max(
            sum(other.start_seconds <= span.start_seconds < other.end_seconds for other in spans) for span in spans
        )

    (batch,) = collect(World(replace(CONTINUOUS, reward_concurrency=2)))
    assert most_at_once(batch) <= 2
    (batch,) = collect(World(ASYNCHRONOUS))
    assert most_at_once(batch) > 2
    first_reward = min(span.start_seconds for span in batch.spans if span.kind == "reward")
    assert first_reward < max(span.end_seconds for span in batch.spans if span.kind == "generation")


def test_launches_follow_the_estimate() -> None:
    """With everything usable and a good estimate the batch is launched once and nothing is left over."""
    world = World(SEAMLESS, alpha=0.0)
    world.settings = replace(world.settings, survival_prior=1.0)
    policy = replace(SEAMLESS, dynamic_sampling=False)
    world.policy = policy
    (batch,) = collect(world)
    assert len(batch.groups) == 8 and batch.survival == 1.0


@pytest.mark.parametrize("deviations", [0.0, 1.0, 2.5])
def test_groups_for_by_trial(deviations: float) -> None:
    def enough(groups: int, needed: int, p: float) -> bool:
        return groups * p - deviations * math.sqrt(groups * p * (1 - p)) >= needed - 1e-9

    for needed in (1, 7, 512):
        for p in (0.05, 0.41, 0.9, 1.0):
            found = groups_for(needed, p, deviations)
            assert enough(found, needed, p) and not enough(found - 1, needed, p)
    assert groups_for(0, 0.5, deviations) == groups_for(-3, 0.5, deviations) == 0


def test_the_margin_is_what_further_requests_leave_free() -> None:
    step, survival = StepLedger(64, lambda group: True), SurvivalEstimate(0.41, 64)
    launches = [SEAMLESS.num_to_launch(step, survival, cost) for cost in (1.0, 0.5, 0.0)]
    assert launches[0] == math.ceil(64 / 0.41) == SEAMLESS.num_to_launch(step, survival)
    assert launches == sorted(launches) and launches[2] == groups_for(64, 0.41, 0.5) > launches[1] > launches[0]


def test_launches_wait_for_seats_and_rewards() -> None:
    world = World(SEAMLESS, num_engines=1, seats=8, num_groups=8, samples_per_prompt=4)
    (batch,) = collect(world)
    starts = sorted(group.launched_seconds for group in batch.groups)
    assert starts[2] > starts[0], "two groups of four fill eight seats"
    slow = World(SEAMLESS, latency_seconds=300.0, max_pending_rewards=3)
    (batch,) = collect(slow)
    for group in batch.groups[1:]:
        waiting = sum(
            sample.generated_seconds < group.launched_seconds < (sample.scored_seconds or float("inf"))
            for other in batch.groups
            for sample in other.finished
        )
        assert waiting <= 3


def test_only_fifo_is_fair_to_long_responses() -> None:
    """Mean length of the selected against responses of groups that survive, drawn without any scheduler."""

    def mean_length(policy: SchedulingPolicy, seeds: int) -> float:
        lengths = [
            len(sample.tokens)
            for seed in range(seeds)
            for batch in collect(World(policy, seed=seed, num_groups=10, alpha=0.0), 2)
            for group in batch.selected
            for sample in group.finished
        ]
        return statistics.mean(lengths)

    lengths, settings = [], World().settings.generation
    for number in range(8000):
        prompt = make_prompts()[number % 60]
        requests = [GenerationRequest(id="", prompt=prompt, settings=settings, seed=4 * number + i) for i in range(4)]
        responses = [respond(request) for request in requests]
        if len({response.tokens[0] for response in responses}) == 2:
            lengths += [len(response.tokens) for response in responses]
    fair = statistics.mean(lengths)
    assert mean_length(SEAMLESS, 50) == pytest.approx(fair, rel=0.05)
    assert mean_length(FIRST_FINISHED, 20) < 0.95 * fair


def test_seamless_is_faster_than_naive() -> None:
    naive, seamless = (sum(batch.seconds for batch in collect(World(policy), 5)) for policy in (NAIVE, SEAMLESS))
    assert seamless < 0.75 * naive


def test_an_unfillable_batch_is_an_error_that_names_the_way_out() -> None:
    world = World(SEAMLESS, max_launched_groups=9)
    with pytest.raises(BatchNotFilled, match="nearer to what the model can do"):
        collect(world)


def test_all_engines_lost() -> None:
    world = World(SEAMLESS, retry=RetryConfig(max_restarts=1, max_generation_attempts=9))

    async def main() -> None:
        scheduler = world.scheduler()
        for engine in world.engines:
            engine.failing_restarts = 5
        task = asyncio.create_task(scheduler.collect())
        await asyncio.sleep(1)
        for engine in world.engines:
            engine.kill()
        with pytest.raises(NoEngines):
            await task
        assert scheduler.num_open == scheduler.num_launched > 0
        saved = scheduler.state_dict()
        batch = await world.scheduler(saved).collect()
        assert len(batch.selected) == 8

    run_in_virtual_time(main())


def test_a_bug_in_the_reward_ends_the_run_and_keeps_the_samples() -> None:
    world = World(SEAMLESS)

    async def main() -> None:
        scheduler = world.scheduler()

        async def broken(prompt: object, sample: object) -> None:
            raise KeyError("a bug")

        right, world.reward.score = world.reward.score, broken  # type: ignore[assignment]
        with pytest.raises(KeyError, match="a bug"):
            await scheduler.collect()
        world.reward.score = right  # type: ignore[method-assign]
        batch = await scheduler.collect()
        assert len(batch.selected) == 8

    run_in_virtual_time(main())


def test_wrong_state() -> None:
    saved = World(SEAMLESS).scheduler().state_dict()
    with pytest.raises(UserError, match="policy"):
        World(NAIVE).scheduler(saved)
