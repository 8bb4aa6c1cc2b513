"""What a forecast counts, against the schedule walked step by step."""

from dataclasses import replace
from pathlib import Path

import pytest

from megatron_mimo.config import BatchRamp, PretrainConfig
from megatron_mimo.training.forecast import Forecast, StageForecast, StepCost, evaluations, rest_of_run
from megatron_mimo.training.schedule import Schedule
from support.tiny import tiny_config, tiny_tree


@pytest.fixture
def config() -> PretrainConfig:
    """15 steps of growing batches, then 5 of 4 x 128 tokens."""
    config = tiny_config(tiny_tree(Path("data"), Path("run"), steps=20))
    ramp = BatchRamp(start=4, increment=2, tokens=2048)
    return replace(config, stages=[replace(config.stages[0], batch_ramp=ramp), config.stages[1]])


@pytest.mark.parametrize("max_steps", [None, 3, 12, 19])
@pytest.mark.parametrize("done", [0, 2, 11, 18])
def test_the_rest_of_a_run(done: int, max_steps: int | None, config: PretrainConfig) -> None:
    config = replace(config, max_steps=max_steps)
    schedule = Schedule(config.stages, config.mtp_loss)
    planned = [step for step in schedule.steps() if done < step.step <= (max_steps or 10**9)]
    found = [
        (rest.stage, batch) for rest in rest_of_run(config, schedule, done) for batch, n in rest.steps for _ in range(n)
    ]
    assert found == [(step.stage, step.global_batch_size) for step in planned]
    firsts = {step.stage: step.consumed_tokens for step in reversed(planned)}
    assert {rest.stage: rest.start_tokens for rest in rest_of_run(config, schedule, done)} == firsts


@pytest.mark.parametrize("every", [None, 512, 1000, 3000])
@pytest.mark.parametrize(("start", "tokens"), [(0, 7680), (512, 7168), (512, 1024), (7168, 512)])
def test_evaluations_of_a_stage(every: int | None, start: int, tokens: int, config: PretrainConfig) -> None:
    """512 tokens per step; due once a multiple of `every` is reached, and at the stage's end."""
    config = replace(config, evaluation=replace(config.evaluation, every_tokens=every))
    expected = 0
    for consumed in range(start + 512, start + tokens + 1, 512):
        reached = every is not None and consumed // every > (consumed - 512) // every
        expected += reached or consumed == 7680
    found = evaluations(config, 7680, start, tokens)
    # A multiple may fall between two steps, and then counts with the step after it.
    assert abs(found - expected) <= (every is not None and every % 512 != 0)
    assert every not in (None, 512) or found == expected


def test_the_text_adds_up() -> None:
    found = Forecast(
        [StageForecast("stage1", 3_000_000, 960.0), StageForecast("stage3", 800_000, 300.0)], 8, 12, 30, 11, 9
    )
    assert found.seconds == 1307
    lines = found.text.splitlines()
    assert "3.12K tokens/s" in lines[0] and "16 min 0 s" in lines[0]
    assert lines[-1] == "forecast: 21 min 47 s (1307 seconds)"


def test_a_step_of_many_micro_batches() -> None:
    assert StepCost(fixed_seconds=0.5, micro_batch_seconds=0.25).seconds(16) == 4.5
