"""Ranks of a gloo world forked from one process, which has imported everything once."""

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_ranks(size: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(rank, *arguments)` in `size` processes that have met; raises RuntimeError where one fails.

    The calling process must have used no threads of torch's yet: call it at the top of a program.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_rank, args=(rank, size, Path(folder) / "store", work, arguments))
            for rank in range(size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    codes = [process.exitcode for process in ranks]
    if any(codes):
        raise RuntimeError(f"exit codes of the ranks: {codes}")


def _rank(rank: int, size: int, store: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch
    import torch.distributed as dist

    from megatron_mimo.platform import cpu

    torch.set_num_threads(1)
    cpu.install()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    try:
        work(rank, *arguments)
        dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        raise
