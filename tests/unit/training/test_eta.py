"""Time left: from measured steps alone, and with what happens between them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import PretrainConfig
from megatron_mimo.plan.flops import training_flops_per_token
from megatron_mimo.training.eta import Eta
from megatron_mimo.training.metrics import StepMetrics
from megatron_mimo.training.run_plan import run_plan
from support.tiny import tiny_config, tiny_tree

STEP_TOKENS = 512


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def step(number: int, seconds: float, stage: str = "stage1", seq_length: int = 64) -> StepMetrics:
    return StepMetrics(
        step=number,
        consumed_tokens=number * STEP_TOKENS,
        stage=stage,
        loss=1.0,
        mtp_losses=[],
        grad_norm=1.0,
        learning_rate=1e-3,
        global_batch_size=STEP_TOKENS // seq_length,
        seq_length=seq_length,
        rotary_base=10_000,
        mtp_loss_scaling_factor=0.3,
        step_seconds=seconds,
        tokens_per_second=STEP_TOKENS / seconds,
        tflops_per_gpu=1.0,
        mfu=None,
        memory_bytes=1,
        skipped=False,
        source_losses={},
        source_tokens={},
    )


@pytest.fixture
def config() -> PretrainConfig:
    """20 steps: 15 at 64 tokens, 5 at 128."""
    return tiny_config(tiny_tree(Path("data"), Path("run"), steps=20))


@pytest.fixture
def one_stage(config: PretrainConfig) -> PretrainConfig:
    return replace(config, stages=config.stages[:1])


class Run:
    """Steps on a clock that they and the pauses between them move."""

    def __init__(self, config: PretrainConfig) -> None:
        self.clock = Clock()
        self.eta = Eta(run_plan(config.model, config.stages, config.max_steps), self.clock)

    def take(self, number: int, seconds: float, pause: float = 0.0, **stage: Any) -> float | None:
        self.clock.now += pause + seconds
        metrics = step(number, seconds, **stage)
        self.eta.observe(metrics)
        return self.eta.seconds(metrics)


def test_nothing_is_said_before_three_steps_beyond_the_first(one_stage: PretrainConfig) -> None:
    run = Run(one_stage)
    found = [run.take(1, 100.0), run.take(2, 0.5), run.take(3, 0.5), run.take(4, 0.5)]
    assert found[:3] == [None] * 3
    assert found[3] == pytest.approx(11 * 0.5)


def test_a_step_after_a_rollback_or_a_resume_is_a_first_one(one_stage: PretrainConfig) -> None:
    run = Run(one_stage)
    for number in range(1, 5):
        run.take(number, 0.5)
    run.eta.restart()
    run.take(3, 100.0)
    assert run.take(4, 0.5) == pytest.approx(11 * 0.5)


def test_the_stage_to_come_is_slower_by_its_flops(config: PretrainConfig) -> None:
    run = Run(config)
    for number in range(1, 11):
        found = run.take(number, 0.5)
    short, long = (training_flops_per_token(config.model, length).total for length in (64, 128))
    assert long > short
    assert found == pytest.approx(5 * 0.5 + 5 * 0.5 * long / short)


def test_the_first_step_of_a_stage_is_no_measure(config: PretrainConfig) -> None:
    run = Run(config)
    for number in range(1, 16):
        before = run.take(number, 0.5)
    after = run.take(16, 100.0, stage="stage2", seq_length=128)
    assert before is not None and after is not None
    assert after == pytest.approx(before * 4 / 5)


def test_a_lasting_change_of_pace_shows(one_stage: PretrainConfig) -> None:
    run = Run(one_stage)
    for number in range(1, 5):
        run.take(number, 0.5)
    for _ in range(20 * Eta.AVERAGED_STEPS):
        found = run.take(5, 5.0)
    assert found == pytest.approx(10 * 5.0, rel=1e-3)


def test_checkpoints_and_evaluations_count(one_stage: PretrainConfig) -> None:
    """Every fourth step is followed by 2 s of something else: a second step a step of one second half as long again."""
    run = Run(one_stage)
    found = None
    for number in range(1, 14):
        found = run.take(number, 1.0, pause=2.0 if number in (5, 9, 13) else 0.0)
    assert found == pytest.approx(2 * 1.0 * (1 + 6 / 12))


def test_a_stage_that_was_ended_early_counts_as_long_as_it_came(config: PretrainConfig) -> None:
    config.stages[0].ended_after_tokens = 6 * STEP_TOKENS
    run = Run(config)
    for number in range(1, 6):
        found = run.take(number, 0.5)
    short, long = (training_flops_per_token(config.model, length).total for length in (64, 128))
    assert found == pytest.approx(1 * 0.5 + 5 * 0.5 * long / short)


def test_max_steps_ends_sooner(config: PretrainConfig) -> None:
    run = Run(replace(config, max_steps=10))
    for number in range(1, 7):
        found = run.take(number, 0.5)
    assert found == pytest.approx(4 * 0.5)
    assert run.take(10, 0.5) == 0
