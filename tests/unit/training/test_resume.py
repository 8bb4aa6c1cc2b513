"""What a resumed run finds changed: lengths of stages, the order of the data, everything else."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import PretrainConfig, UserError
from megatron_mimo.training.checkpoint_record import CheckpointRecord, SourceRecord, stage_records
from megatron_mimo.training.resume import check_order, differences, settle_progress, settle_stages
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.state import Progress, advance
from support.records import record
from support.tiny import tiny_config, tiny_tree

TOKENS = 512
"""A step of either stage."""


def config(**stages: Any) -> PretrainConfig:
    """Stages of 15 and 5 steps, or as `stages` say: name=steps."""
    tree = tiny_tree(Path("data"), Path("run"), 20)
    for number, steps in stages.items():
        stage = tree["stages"][int(number[-1]) - 1]
        stage["tokens"] = steps * TOKENS
        stage["learning_rate"] = [{"kind": "constant", "tokens": steps * TOKENS, "start": 1e-3, "end": 1e-3}]
    return tiny_config(tree)


def source(content: int) -> SourceRecord:
    return SourceRecord(domain="web", documents=1, tokens=1, content={"sha256": content})


def run_after(steps: int, of: PretrainConfig) -> CheckpointRecord:
    """The record after so many steps."""
    schedule, progress = Schedule(of.stages, of.mtp_loss), Progress()
    for _ in range(steps):
        progress = advance(progress, schedule)
    facts: dict[str, Any] = {"data": {"prose": source(1)}, "order": {"stage1": {"prose": "1"}}}
    return record(model=of.model, progress=progress, stages=stage_records(of.stages), seed=of.seed, **facts)


def resumed(run: CheckpointRecord, now: PretrainConfig) -> tuple[Progress, Schedule, list[str]]:
    said = settle_stages(now, run)
    schedule = Schedule(now.stages, now.mtp_loss)
    return settle_progress(run.progress, schedule.stage_index(run.progress.consumed_tokens)), schedule, said


@pytest.mark.parametrize("steps", [12, 8, 1])
def test_a_stage_ends_where_its_tokens_are_lowered(steps: int) -> None:
    """D08: the next stage begins now, at the beginning of its own recipe, for its whole length."""
    now = config(stage1=steps)
    progress, schedule, said = resumed(run_after(12, config()), now)
    assert progress == Progress(12, 12 * TOKENS, 1, 0)
    assert schedule.stage_start(1) == 12 * TOKENS
    assert schedule.total_tokens == now.total_tokens == 17 * TOKENS
    assert len(said) == 1 and "stage1 ends here, after 6,144 tokens" in said[0]
    again = config(stage1=steps)
    later = resumed(run_after(14, now), again)
    assert later[0] == Progress(14, 14 * TOKENS, 1, 8)
    assert later[1].total_tokens == 17 * TOKENS, "a second start knows where the stage ended"


def test_a_stage_that_is_over_keeps_its_length() -> None:
    progress, schedule, said = resumed(run_after(17, config()), config(stage1=30))
    assert progress.stage == 1 and schedule.stage_start(1) == 15 * TOKENS
    assert "stage1 is over" in said[0]


def test_lengths_that_do_not_matter_are_left_alone() -> None:
    for now in (config(), config(stage1=40), config(stage1=13), config(stage2=9)):
        progress, schedule, said = resumed(run_after(12, config()), now)
        assert (progress.stage, progress.samples_in_stage, said) == (0, 96, [])
        assert schedule.total_tokens == sum(stage.tokens for stage in now.stages)


def test_the_stages_that_have_begun_must_stay() -> None:
    now = config()
    now.stages = now.stages[1:]
    with pytest.raises(UserError, match="has begun the stages stage1"):
        settle_stages(now, run_after(3, config()))


ORDER_CHANGES: dict[str, Any] = {
    "seed": lambda now: setattr(now, "seed", 2),
    "seq_length": lambda now: setattr(now.stages[0], "seq_length", 32),
    "data": lambda now: {"data": {"prose": source(2)}},
    "mixture": lambda now: {"order": {"stage1": {"prose": "1/2", "digits": "1/2"}}},
}


@pytest.mark.parametrize("setting", ORDER_CHANGES)
def test_what_loses_the_place_in_the_data_is_refused_unless_allowed(setting: str) -> None:
    """D10"""
    run, now = run_after(12, config()), config()
    check_order(now, run, 0, run)
    facts = replace(run, **(ORDER_CHANGES[setting](now) or {}))
    with pytest.raises(UserError, match=rf"(?s)  {setting}: .*resume\.allow=\[{setting}\]"):
        check_order(now, run, 0, facts)
    check_order(now, run_after(0, config()), 0, facts)
    check_order(now, run_after(15, config()), 1, facts)
    now.resume.allow = [setting]  # type: ignore[list-item]
    check_order(now, run, 0, facts)


def test_data_that_the_stage_does_not_read_may_change() -> None:
    run = run_after(12, config())
    check_order(config(), run, 0, replace(run, data={**run.data, "new": source(5)}))


def test_the_rest_is_said_in_a_few_lines() -> None:
    now = config()
    assert differences(asdict(config()), asdict(now)) == []
    now.optimizer.clip_grad, now.precision.dtype, now.output_dir = 2.0, "bf16", "elsewhere"
    now.data.num_workers, now.stages[1].global_batch_size = 3, 8
    assert differences(asdict(config()), asdict(now)) == [
        "optimizer.clip_grad: 1.0 -> 2.0",
        "precision.dtype: 'fp32' -> 'bf16'",
        "stages.1.global_batch_size: 4 -> 8",
    ]
    stages = {"stages": [{"name": "one", "tokens": 1}]}
    longer = {"stages": [*stages["stages"], {"name": "two", "tokens": 1}], "x": 0}
    assert differences(stages, longer) == ["stages: ['one'] -> ['one', 'two']"]
    (said,) = differences({"x": [0]}, {"x": list(range(1000))})
    assert len(said) < 80 and said.endswith(" ...")
    start = {"checkpoint": "a", "train": "all"}
    assert differences({"start": start}, {"start": start | {"checkpoint": "b"}}) == []
    assert differences({"start": start}, {"start": start | {"train": "mtp_layers"}}) == [
        "start.train: 'all' -> 'mtp_layers'"
    ]
    many = {str(number): number for number in range(40)}
    said = differences(many, {key: value + 1 for key, value in many.items()})
    assert len(said) == 12 and said[-1] == "and 29 more"


@pytest.mark.parametrize("batch", [8, 12, 40])
def test_a_stage_has_samples_for_whatever_batch(batch: int) -> None:
    """D09: samples read with one batch size, the rest of the stage with another."""
    from megatron_mimo.training.state import micro_batch_indices

    before = config()
    run = run_after(12, before)
    now = config()
    now.stages[0].global_batch_size = batch
    schedule = Schedule(now.stages, now.mtp_loss)
    progress = run.progress
    samples = progress.samples_in_stage + schedule.samples_to_stage_end(progress.consumed_tokens)
    last = max(index for indices in micro_batch_indices(progress, schedule, 0, 1) for index in indices)
    assert last == samples - 1
    while progress.stage == 0:
        progress = advance(progress, schedule)
    assert schedule.samples_to_stage_end(0) == Schedule(now.stages, now.mtp_loss).stage_samples(0)
