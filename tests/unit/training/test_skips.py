"""Data that is left out: against a run that reads a list, wherever it is stopped and resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, PretrainConfig, UserError
from megatron_mimo.config.stages import SkippedData
from megatron_mimo.training.checkpoint_record import CheckpointRecord, stage_records
from megatron_mimo.training.resume import check_order
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.skips import in_order, stage_jumps
from megatron_mimo.training.state import Progress, advance, micro_batch_indices
from support.records import record
from support.tiny import SEQ_LENGTH, tiny_config, tiny_tree

STEP = 512
SKIPS = [
    {"after_tokens": 3 * STEP, "tokens": 2 * STEP},
    {"after_tokens": 5 * STEP + 100, "tokens": 70},  # inside a batch, in whole sequences
    {"after_tokens": 15 * STEP + 10, "tokens": 300},  # in the second stage
]


def config(skips: list[dict[str, int]], **settings: Any) -> PretrainConfig:
    """15 steps of 8 sequences, 5 steps of 4 that are twice as long."""
    return tiny_config(tiny_tree(Path("data"), Path("run"), 20) | {"skip_data": skips} | settings)


def read_from(progress: Progress, of: PretrainConfig, ranks: int = 1) -> list[int]:
    """What the ranks read of the stage of `progress`, in the order of the steps."""
    schedule = Schedule(of.stages, of.mtp_loss)
    jumps = stage_jumps(of.skip_data, schedule, progress)
    streams = [in_order(micro_batch_indices(progress, schedule, rank, ranks), jumps) for rank in range(ranks)]
    return [number for groups in zip(*streams, strict=True) for group in groups for number in group]


def positions(of: PretrainConfig) -> list[Progress]:
    """Before every step."""
    schedule, found = Schedule(of.stages, of.mtp_loss), [Progress()]
    while found[-1].consumed_tokens < schedule.total_tokens:
        found.append(advance(found[-1], schedule))
    return found[:-1]


def test_what_is_read_and_what_is_left_out() -> None:
    run = config(SKIPS)
    first = list(range(15 * 8 + 16 + 2))
    del first[24:40]  # 2 steps of 8 sequences after 3 steps
    del first[42:44]  # position 42: 5 steps and 100 tokens are 41.6 sequences; 70 tokens are 2 sequences
    assert read_from(Progress(), run) == first
    second = list(range(5 * 4 + 3))
    del second[1:4]  # 10 tokens into the stage: before its second sequence; 300 tokens are 3 sequences of 128
    assert read_from(positions(run)[15], run) == second


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_that_is_stopped_anywhere_reads_the_same(ranks: int) -> None:
    run = config(SKIPS)
    whole = {stage: read_from(positions(run)[start], run) for stage, start in ((0, 0), (1, 15))}
    for progress in positions(run):
        assert read_from(progress, run, ranks) == whole[progress.stage][progress.samples_in_stage :]


def test_the_lengths_of_stages_stay() -> None:
    assert positions(config(SKIPS)) == positions(config([]))


def saved_after(steps: int, of: PretrainConfig) -> CheckpointRecord:
    progress, stages = positions(of)[steps], stage_records(of.stages)
    return record(
        model=of.model, progress=progress, stages=stages, seed=of.seed, skip_data=of.skip_data, order={"stage1": {}}
    )


def test_what_lies_ahead_may_change_and_what_lies_behind_may_not() -> None:
    without, with_skips = config([]), config(SKIPS)
    for steps, before, now in ((3, without, with_skips), (3, with_skips, without), (16, without, config(SKIPS[:2]))):
        check_order(now, saved := saved_after(steps, before), saved.progress.stage, saved)
    for steps, before, now in ((4, without, with_skips), (4, with_skips, without), (16, with_skips, without)):
        saved = saved_after(steps, before)
        with pytest.raises(UserError, match=r"(?s)skip_data: .*--branch-from"):
            check_order(now, saved, saved.progress.stage, saved)
        allowed = replace(now, resume=replace(now.resume, allow=["skip_data"]))
        check_order(allowed, saved, saved.progress.stage, saved)


def test_settings_that_cannot_be() -> None:
    assert config(SKIPS).skip_data[0] == SkippedData(after_tokens=3 * STEP, tokens=2 * STEP)
    for skips, settings in (
        ([{"after_tokens": -1, "tokens": 1}], {}),
        ([{"after_tokens": 1, "tokens": 0}], {}),
        ([{"after_tokens": 20 * STEP, "tokens": SEQ_LENGTH}], {}),
        ([], {"stop_after_seconds": 0}),
    ):
        with pytest.raises((UserError, ConfigError), match="skip_data|stop_after_seconds"):
            config(skips, **settings)
