"""torch.profiler over a range of steps, switched on by `logging.profile_steps`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.profiler import profile, schedule, tensorboard_trace_handler


class NoProfiler:
    """Takes the profiler's place when there is nothing to record."""

    def step(self) -> None:
        return None


@contextmanager
def step_profiler(wanted: list[int] | None, folder: Path, steps_done: int) -> Iterator[Any]:
    """A profiler that records the `wanted` steps, first to last, on rank 0 into `folder`; call `.step()` after each."""
    if wanted is None or dist.get_rank() != 0 or wanted[-1] <= steps_done:
        yield NoProfiler()
        return
    first, last = max(wanted[0], steps_done + 1), wanted[1]
    plan = schedule(wait=first - steps_done - 1, warmup=0, active=last - first + 1, repeat=1)
    with profile(schedule=plan, on_trace_ready=tensorboard_trace_handler(str(folder)), profile_memory=True) as recorder:
        yield recorder
