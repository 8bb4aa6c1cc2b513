"""Schedules against a closed form written from the report's numbers, not from the YAML file."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_mimo.config import (
    BatchRamp,
    LearningRateSegment,
    MTPLossWeight,
    PretrainConfig,
    PretrainStageConfig,
    load,
)
from megatron_mimo.training.schedule import Schedule

MIMO_7B = Path(__file__).parents[3] / "examples" / "mimo_7b" / "pretrain.yaml"
BILLION, TRILLION = 10**9, 10**12

# Consumed tokens at which something changes, added up by hand from the report's phases.
WARM_UP_END = 84 * BILLION
BATCH_RAMP_END = 168 * BILLION
PLATEAU_END = 10_284 * BILLION
MTP_SWITCH = 10_300 * BILLION
STAGE1_END = 17_784 * BILLION
STAGE2_END = 21_784 * BILLION
STAGE3_DECAY = 23_284 * BILLION
RUN_END = 23_784 * BILLION
BOUNDARIES = [0, WARM_UP_END, BATCH_RAMP_END, PLATEAU_END, MTP_SWITCH, STAGE1_END, STAGE2_END, STAGE3_DECAY, RUN_END]


def learning_rate_closed_form(t: int) -> float:
    if t < WARM_UP_END:
        return 1.07e-4 * t / 84e9
    if t < PLATEAU_END:
        return 1.07e-4
    if t < STAGE1_END:
        return 3e-5 + (1.07e-4 - 3e-5) * math.cos(math.pi / 2 * (t - 10.284e12) / 7.5e12) ** 2
    if t < STAGE3_DECAY:
        return 3e-5
    return 1e-5 + (3e-5 - 1e-5) * math.cos(math.pi / 2 * (t - 23.284e12) / 0.5e12) ** 2


def batch_closed_form(t: int) -> int:
    """256 sequences to 2560 in steps of 256, spread evenly over 168B tokens."""
    if t < BATCH_RAMP_END:
        return 256 + 256 * math.floor(9 * t / BATCH_RAMP_END)
    return 2560 if t < STAGE2_END else 640


def points_to_check() -> list[int]:
    midpoints = [(a + b) // 2 for a, b in itertools.pairwise(BOUNDARIES)]
    around = [t + d for t in BOUNDARIES for d in (-20_971_520, -1, 0, 1, 20_971_520)]
    return sorted({t for t in around + midpoints if 0 <= t < RUN_END})


@pytest.fixture(scope="module")
def mimo_7b() -> Schedule:
    config = load(PretrainConfig, [str(MIMO_7B)])
    return Schedule(config.stages, config.mtp_loss)


@pytest.mark.parametrize("t", points_to_check())
def test_mimo_7b_equals_the_closed_form(mimo_7b: Schedule, t: int) -> None:
    stage = mimo_7b.stages[mimo_7b.stage_index(t)]
    assert mimo_7b.learning_rate(t) == pytest.approx(learning_rate_closed_form(t), rel=1e-12, abs=1e-18)
    assert mimo_7b.global_batch_size(t) == batch_closed_form(t)
    assert mimo_7b.mtp_loss_scaling_factor(t) == (0.3 if t < MTP_SWITCH else 0.1)
    assert mimo_7b.stage_index(t) == (t >= STAGE1_END) + (t >= STAGE2_END)
    assert stage.rotary_base == (10_000 if t < STAGE2_END else 640_000)
    assert stage.seq_length == (8_192 if t < STAGE2_END else 32_768)


def test_mimo_7b_starts_at_zero_and_ends_at_the_last_learning_rate(mimo_7b: Schedule) -> None:
    assert mimo_7b.learning_rate(0) == 0.0
    assert mimo_7b.total_tokens == RUN_END
    assert mimo_7b.learning_rate(RUN_END) == mimo_7b.learning_rate(RUN_END + TRILLION) == 1e-5
    assert [mimo_7b.stage_start(i) for i in range(3)] == [0, STAGE1_END, STAGE2_END]
    assert mimo_7b.stage_index(RUN_END) == 2


def test_mimo_7b_batch_ramp_has_ten_equal_levels(mimo_7b: Schedule) -> None:
    for level in range(1, 9):
        change = -(-level * BATCH_RAMP_END // 9)
        assert mimo_7b.global_batch_size(change - 1) == 256 * level
        assert mimo_7b.global_batch_size(change) == 256 * (level + 1)


def test_mimo_7b_steps_walk_the_whole_run(mimo_7b: Schedule) -> None:
    """Every step starts where the one before ended, at the batch of that point; tokens per step survive stage 3."""
    expected, last_start = 0, [0, 0, 0]
    for count, (step, consumed, stage, batch) in enumerate(mimo_7b.steps(), start=1):
        if step != count or consumed != expected:
            pytest.fail(f"step {step} starts at {consumed}, not at {expected}")
        if count % 1009 == 0 or consumed < BATCH_RAMP_END:
            assert batch == batch_closed_form(consumed)
        last_start[stage] = consumed
        expected += batch * (8_192 if stage < 2 else 32_768)
    assert RUN_END <= expected < RUN_END + 20_971_520
    assert count == mimo_7b.total_steps
    for start, end in zip(last_start, (STAGE1_END, STAGE2_END, RUN_END), strict=True):
        assert start < end <= start + 20_971_520


@st.composite
def stage_lists(draw: st.DrawFn) -> list[PretrainStageConfig]:
    stages = []
    for number in range(draw(st.integers(1, 3))):
        tokens, increment = draw(st.integers(1, 5000)), draw(st.integers(1, 3))
        start = increment * draw(st.integers(1, 3))
        batch = start + draw(st.integers(0, 7))
        ramp = draw(st.none() | st.builds(BatchRamp, start=st.just(start), increment=st.just(increment),
                                          tokens=st.integers(1, tokens)))  # fmt: skip
        curve = [LearningRateSegment(kind="linear", tokens=tokens, start=0.0, end=1.0)]
        stages.append(PretrainStageConfig(name=str(number), tokens=tokens, seq_length=draw(st.integers(1, 64)),
                                  rotary_base=10_000, mixture="m", learning_rate=curve, global_batch_size=batch,
                                  batch_ramp=ramp))  # fmt: skip
    return stages


@given(stage_lists())
def test_steps_equal_a_naive_walk(stages: list[PretrainStageConfig]) -> None:
    """The run-length cut gives exactly the steps of a loop that asks for the batch anew each time."""
    schedule = Schedule(stages, [MTPLossWeight(mtp_loss_scaling_factor=0.3)])
    walk, consumed, samples = [], 0, [0] * len(stages)
    while consumed < schedule.total_tokens:
        stage, batch = schedule.stage_index(consumed), schedule.global_batch_size(consumed)
        walk.append((len(walk) + 1, consumed, stage, batch))
        samples[stage] += batch
        consumed += batch * stages[stage].seq_length
    assert list(schedule.steps()) == walk
    assert schedule.total_steps == len(walk)
    assert [schedule.stage_samples(i) for i in range(len(stages))] == samples


@given(stage_lists(), st.integers(0, 20_000))
def test_batch_is_the_rounded_line(stages: list[PretrainStageConfig], consumed: int) -> None:
    schedule = Schedule(stages, [MTPLossWeight(mtp_loss_scaling_factor=0.3)])
    stage = stages[schedule.stage_index(consumed)]
    offset = consumed - schedule.stage_start(schedule.stage_index(consumed))
    batch, ramp = schedule.global_batch_size(consumed), stage.batch_ramp
    if ramp is None or offset >= ramp.tokens:
        assert batch == stage.global_batch_size
        return
    line = ramp.start + (stage.global_batch_size - ramp.start) * offset / ramp.tokens
    assert batch % ramp.increment == 0
    assert max(ramp.start, line - ramp.increment - 1e-6) <= batch <= line + 1e-6


def test_overshoot_counts_towards_the_next_stage() -> None:
    """100 tokens in steps of 30 end at 120: the second stage begins there, on its own curve by absolute tokens."""
    stages = [
        PretrainStageConfig(name=name, tokens=100, seq_length=10, rotary_base=10_000, mixture="m", global_batch_size=3,
                    learning_rate=[LearningRateSegment(kind="linear", tokens=100, start=a, end=b)])
        for name, a, b in (("one", 0.0, 1.0), ("two", 1.0, 0.0))
    ]  # fmt: skip
    schedule = Schedule(stages, [MTPLossWeight(mtp_loss_scaling_factor=0.3)])
    planned = list(schedule.steps())
    assert [step.consumed_tokens for step in planned] == [0, 30, 60, 90, 120, 150, 180]
    assert [step.stage for step in planned] == [0, 0, 0, 0, 1, 1, 1]
    rates = [schedule.learning_rate(step.consumed_tokens) for step in planned]
    assert rates == pytest.approx([0.0, 0.3, 0.6, 0.9, 0.8, 0.5, 0.2])


def test_negative_consumed_tokens_are_refused(mimo_7b: Schedule) -> None:
    with pytest.raises(ValueError, match="negative"):
        mimo_7b.learning_rate(-1)


def test_a_jump_between_segments_happens_at_the_first_token_of_the_later_one() -> None:
    curve = [LearningRateSegment(kind="constant", tokens=50, start=rate, end=rate) for rate in (1.0, 2.0)]
    stage = PretrainStageConfig(name="one", tokens=100, seq_length=1, rotary_base=1, mixture="m", global_batch_size=1,
                        learning_rate=curve)  # fmt: skip
    schedule = Schedule([stage], [MTPLossWeight(mtp_loss_scaling_factor=0.3)])
    assert [schedule.learning_rate(t) for t in (0, 49, 50, 99, 100)] == [1.0, 1.0, 2.0, 2.0, 2.0]
