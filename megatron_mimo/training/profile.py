"""torch.profiler over a range of steps, switched on by `logging.profile_steps`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.profiler import profile, schedule, tensorboard_trace_handler

from megatron_mimo.config import PretrainConfig


class NoProfiler:
    """Takes the profiler's place when there is nothing to record."""

    def step(self) -> None:
        return None


@contextmanager
def step_profiler(config: PretrainConfig, steps_done: int) -> Iterator[Any]:
    """A profiler that records steps first..last on rank 0 into `<output_dir>/profile`; call `.step()` after each."""
    wanted = config.logging.profile_steps
    if wanted is None or dist.get_rank() != 0 or wanted[-1] <= steps_done:
        yield NoProfiler()
        return
    first, last = max(wanted[0], steps_done + 1), wanted[1]
    plan = schedule(wait=first - steps_done - 1, warmup=0, active=last - first + 1, repeat=1)
    folder = Path(config.output_dir) / "profile"
    with profile(schedule=plan, on_trace_ready=tensorboard_trace_handler(str(folder)), profile_memory=True) as recorder:
        yield recorder
