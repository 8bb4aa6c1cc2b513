import asyncio
from collections import Counter

from megatron_mimo.config.rl import RetryConfig, RolloutConfig
from megatron_mimo.rl.engine_protocol import Score, ScoringFailed
from megatron_mimo.rl.sample import Outcome, Prompt, Sample, SampleGroup
from megatron_mimo.rl.scheduler.validation import stream_groups
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.simulated_engine import DecodingSpeed, SimulatedEngine, SimulatedReward
from rl_world import World, judge, make_prompts, respond

SETTINGS = RolloutConfig(num_groups=1, samples_per_prompt=3, retry=RetryConfig(max_reward_attempts=2))


def engines() -> list[SimulatedEngine]:
    speed = DecodingSpeed(weights_seconds=0.05, request_seconds=0.01)
    return [SimulatedEngine(str(index), respond, speed, max_concurrent_requests=6) for index in range(2)]


def test_every_prompt_once_and_streaming() -> None:
    async def main() -> tuple[list[SampleGroup], list[float]]:
        groups, times = [], []
        reward = SimulatedReward(judge, lambda *_: 5.0)
        async for group in stream_groups(engines(), reward, make_prompts(), SETTINGS):
            groups.append(group)
            times.append(asyncio.get_running_loop().time())
        return groups, times

    groups, times = run_in_virtual_time(main())
    assert sorted(group.prompt.id for group in groups) == [prompt.id for prompt in make_prompts()]
    assert all(group.complete and len(group.samples) == 3 for group in groups)
    assert times == [group.completed_seconds for group in groups], "each as soon as it is complete"
    assert times[0] < times[-1] / 4


def test_faults_are_told_not_scored() -> None:
    class Picky(SimulatedReward):
        async def score(self, prompt: Prompt, sample: Sample) -> Score:
            if prompt.id.endswith("3"):
                raise ScoringFailed("no")
            return await super().score(prompt, sample)

    async def main() -> list[SampleGroup]:
        machines = engines()
        asyncio.get_running_loop().call_later(7, machines[0].kill)
        reward = Picky(judge, lambda *_: 1.0)
        return [group async for group in stream_groups(machines, reward, make_prompts(), SETTINGS)]

    groups = run_in_virtual_time(main())
    assert len(groups) == 60
    assert Counter(group.outcome for group in groups) == {None: 54, Outcome.FAULTED: 6}
    assert all(not sample.scored for group in groups if group.outcome for sample in group.finished)


def test_closing_aborts() -> None:
    async def main() -> int:
        machines = engines()
        stream = stream_groups(machines, SimulatedReward(judge, lambda *_: 1.0), make_prompts(), SETTINGS)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        return len(asyncio.all_tasks())

    assert run_in_virtual_time(main()) == 1


def test_no_prompts() -> None:
    async def main() -> list[SampleGroup]:
        return [group async for group in stream_groups(engines(), World().scheduler()._reward, [], SETTINGS)]

    assert run_in_virtual_time(main()) == []
