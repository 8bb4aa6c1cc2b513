"""Where a run stands: the numbers that, with the configuration, decide everything that comes next."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from megatron_mimo.training.schedule import Schedule


@dataclass(frozen=True)
class Progress:
    """Position of a run between two steps."""

    step: int = 0
    """Steps done."""
    consumed_tokens: int = 0
    stage: int = 0
    samples_in_stage: int = 0
    """Sequences of the stage's global order already read."""


def advance(progress: Progress, schedule: Schedule) -> Progress:
    """The position after the next step."""
    batch = schedule.global_batch_size(progress.consumed_tokens)
    consumed = progress.consumed_tokens + batch * schedule.stages[progress.stage].seq_length
    stage = schedule.stage_index(consumed)
    if stage != progress.stage:
        return Progress(progress.step + 1, consumed, stage, 0)
    return replace(
        progress,
        step=progress.step + 1,
        consumed_tokens=consumed,
        samples_in_stage=progress.samples_in_stage + batch,
    )


def is_finished(progress: Progress, schedule: Schedule) -> bool:
    return progress.consumed_tokens >= schedule.total_tokens


def micro_batch_indices(
    progress: Progress, schedule: Schedule, data_parallel_rank: int, data_parallel_size: int
) -> Iterator[list[int]]:
    """Sample indices of this data-parallel rank's micro-batches, to the end of the stage.

    Micro-batch m of a step belongs to rank m mod data_parallel_size: a step reads the same samples on any layout.
    """
    stage = progress.stage
    size = schedule.stages[stage].micro_batch_size
    while progress.stage == stage and not is_finished(progress, schedule):
        batch = schedule.global_batch_size(progress.consumed_tokens)
        for first in range(data_parallel_rank * size, batch, data_parallel_size * size):
            start = progress.samples_in_stage + first
            yield list(range(start, start + size))
        progress = advance(progress, schedule)
