"""Validation: every prompt once, rollouts and rewards streaming over all data sets with no barrier in between."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from megatron_mimo.config.rl import RolloutConfig
from megatron_mimo.rl.engine_protocol import RewardFunction, RolloutEngine
from megatron_mimo.rl.sample import Outcome, Prompt, SampleGroup
from megatron_mimo.rl.scheduler.fleet import EngineFleet
from megatron_mimo.rl.scheduler.group_runner import GroupRunner


async def stream_groups(
    engines: Sequence[RolloutEngine],
    reward: RewardFunction,
    prompts: Iterable[Prompt],
    settings: RolloutConfig,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[SampleGroup]:
    """Yield each prompt's group once as soon as it is complete, or dropped (`outcome` FAULTED, never scored as 0).

    settings.samples_per_prompt responses each; the other numbers of a batch do not matter. Launches keep the engines'
    seats full. Closing the generator aborts what runs.
    """
    ended: asyncio.Queue[SampleGroup | None] = asyncio.Queue()
    seen: set[int] = set()

    def on_change(group: SampleGroup) -> None:
        if (group.complete or group.outcome is Outcome.FAULTED) and group.launch_index not in seen:
            seen.add(group.launch_index)
            ended.put_nowait(group)
        else:
            ended.put_nowait(None)

    fleet = EngineFleet(engines, settings.retry)
    now = clock or asyncio.get_running_loop().time
    runner = GroupRunner(fleet, reward, settings, on_change, now)
    waiting, num_launched, num_yielded = iter(prompts), 0, 0
    exhausted = False
    try:
        while True:
            while not exhausted and (num_launched == num_yielded or fleet.num_free > runner.num_unseated):
                prompt = next(waiting, None)
                exhausted = prompt is None
                if prompt is not None:
                    samples = [None] * settings.samples_per_prompt
                    runner.start(
                        SampleGroup(
                            prompt=prompt, launch_index=num_launched, samples=list(samples), launched_seconds=now()
                        )
                    )
                    num_launched += 1
            if exhausted and num_yielded == num_launched:
                return
            group = await ended.get()
            if runner.error is not None:
                raise runner.error
            if group is not None:
                num_yielded += 1
                yield group
    finally:
        await runner.stop()
