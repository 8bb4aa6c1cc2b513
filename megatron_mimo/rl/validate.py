"""Held-out pass@1 during a run: every validation problem, responses and rewards streaming."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from megatron_mimo.config.rl import RolloutConfig
from megatron_mimo.eval.estimators import confidence_interval
from megatron_mimo.rl.engine_protocol import RewardFunction, RolloutEngine
from megatron_mimo.rl.sample import Outcome, Prompt, SampleGroup
from megatron_mimo.rl.scheduler.validation import stream_groups
from megatron_mimo.rl.step_record import ValidationRecord, domain_results, mean, problem_results, truncated_ratio


async def validate(
    step: int,
    engines: Sequence[RolloutEngine],
    reward: RewardFunction,
    prompts: Sequence[Prompt],
    settings: RolloutConfig,
) -> ValidationRecord:
    """pass@1 of the policy after `step` steps, the mean of settings.samples_per_prompt a problem.

    The same seeds at every step. A problem whose engine or reward failed too often is left out and counted.
    """
    started = asyncio.get_running_loop().time()
    groups: list[SampleGroup] = []
    async for group in stream_groups(engines, reward, prompts, replace(settings, seed=settings.seed + 1)):
        groups.append(group)
    complete = [group for group in groups if group.outcome is not Outcome.FAULTED]
    samples = [sample for group in complete for sample in group.finished]
    scores = [[float(bool(sample.solved)) for sample in group.finished] for group in complete]
    interval = confidence_interval(scores) if scores else None
    return ValidationRecord(
        step=step,
        seconds=asyncio.get_running_loop().time() - started,
        samples=settings.samples_per_prompt,
        solved=interval.value if interval else 0.0,
        low=interval.low if interval else 0.0,
        high=interval.high if interval else 1.0,
        domains=domain_results(complete),
        response_tokens=mean(len(sample.tokens) for sample in samples),
        truncated_ratio=truncated_ratio(samples),
        faulted_groups=len(groups) - len(complete),
        problems=problem_results(complete),
    )
