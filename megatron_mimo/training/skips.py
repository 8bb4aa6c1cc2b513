"""Data that a stage leaves out, as a function of the position: nothing of it is kept, a resumed run computes it anew.

Positions count the sequences that are read. `Jump(at, length)`: before that of position `at`, `length` sequences of the
stage's order are passed over. A jump ahead of the position may be added or removed at any time; one behind is history.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from megatron_mimo.config.stages import SkippedData
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.state import Progress


class Jump(NamedTuple):
    """`length` sequences of the stage's order that are left out before the position `at`."""

    at: int
    length: int


def stage_jumps(skip_data: Iterable[SkippedData], schedule: Schedule, progress: Progress) -> list[Jump]:
    """Those of the stage of `progress`."""
    seq_length = schedule.stages[progress.stage].seq_length
    # Where the stage began: by plan, and what the last step of the stage before took too much.
    start = progress.consumed_tokens - progress.samples_in_stage * seq_length
    return [
        Jump(max(0, -(-(skipped.after_tokens - start) // seq_length)), -(-skipped.tokens // seq_length))
        for skipped in skip_data
        if schedule.stage_index(skipped.after_tokens) == progress.stage
    ]


def in_order(positions: Iterable[list[int]], jumps: list[Jump]) -> Iterator[list[int]]:
    """Numbers in the stage's order of the sequences at these positions."""
    for group in positions:
        yield [position + sum(jump.length for jump in jumps if jump.at <= position) for position in group]
