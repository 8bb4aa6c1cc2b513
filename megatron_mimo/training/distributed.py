"""Process groups, threads and seeds of a torchrun-started process."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

from megatron_mimo.config import GuardConfig, ParallelConfig, UserError
from megatron_mimo.config.run import RunConfig
from megatron_mimo.platform import cpu
from megatron_mimo.training.number_format import check_same_number_format

RENDEZVOUS_TIMEOUT = timedelta(minutes=20)
"""For every rank to start and find the others."""
_MEETINGS = count()
"""How often the ranks of this process have met before; the same on all of them."""


@dataclass(frozen=True)
class World:
    """This process's place; read from torchrun's environment, or a world of one without it."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def from_environment(cls) -> "World":
        env = os.environ
        return cls(
            rank=int(env.get("RANK", "0")),
            size=int(env.get("WORLD_SIZE", "1")),
            local_rank=int(env.get("LOCAL_RANK", "0")),
            local_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        )


@contextmanager
def distributed(config: RunConfig, layout: Callable[[], ParallelConfig] | None = None) -> Iterator[World]:
    """Process groups of the run's layout, destroyed at the end. Raises UserError when the rendezvous fails, or the
    layout does not fit on so many ranks.

    `layout`: says on every rank, once all have met, how the model is cut; None takes `config.parallel`. A run may enter
    several times, one after another.
    """
    world = World.from_environment()
    if layout is None:
        config.parallel.data_parallel_size(world.size)
    set_threads(config.num_threads, world)
    cpu.install()
    cpu.keep_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)
    timeout = collective_timeout(config.guard)
    _initialize_process_group(world, timeout)
    try:
        check_same_number_format(config.precision.dtype)
        initialize_parallel_groups(layout() if layout else config.parallel, timeout)
        seed_everything(config.seed)
        yield world
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def collective_timeout(guard: GuardConfig) -> timedelta:
    """Collectives give up after the watchdog has written every rank's stacks, not before.

    The longer limit counts: the ranks wait in a collective while rank 0 hashes a checkpoint.
    """
    return timedelta(seconds=2 * max(guard.hang_timeout_seconds, guard.startup_timeout_seconds) or 3600)


def initialize_parallel_groups(parallel: ParallelConfig, timeout: timedelta = timedelta(hours=1)) -> None:
    """megatron-core's TP, PP, CP and DP groups over the existing default group."""
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallel.tensor_model_parallel_size,
        pipeline_model_parallel_size=parallel.pipeline_model_parallel_size,
        virtual_pipeline_model_parallel_size=parallel.virtual_pipeline_model_parallel_size,
        context_parallel_size=parallel.context_parallel_size,
        distributed_timeout_minutes=math.ceil(timeout.total_seconds() / 60),
    )


def set_threads(num_threads: int | None, world: World) -> None:
    """CPU threads of this rank: as configured, or the machine's usable cores shared by its ranks."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(num_threads or max(1, cores // world.local_size))


def seed_everything(seed: int) -> None:
    """Seed torch and megatron-core's tensor-parallel RNG tracker."""
    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed)


def _initialize_process_group(world: World, timeout: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    try:
        if "MASTER_PORT" in os.environ:
            store = _store(world, timeout)
            dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout)
        elif world.size == 1:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
        else:
            raise UserError(f"WORLD_SIZE={world.size} but MASTER_PORT is not set; start the ranks with torchrun")
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"cannot meet the other ranks at {address}: {str(error).splitlines()[0]}\n"
            "If the port is in use by another program or run, choose one: --master-port PORT or MASTER_PORT=PORT"
            " (or --rdzv-endpoint HOST:PORT)."
        ) from error


def _store(world: World, timeout: timedelta) -> dist.Store:
    """The store where the ranks meet, its own room for each attempt.

    A launcher that starts dead ranks again keeps its store, in which the addresses of the dead still stand; those of a
    layout that the same ranks have left stand there too.
    """
    store, _, _ = next(dist.rendezvous("env://", world.rank, world.size, timeout=RENDEZVOUS_TIMEOUT))
    store.set_timeout(timeout)
    return dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}_{next(_MEETINGS)}", store)


def is_reporting_rank() -> bool:
    """True on the one rank that knows the losses and writes: last pipeline stage, first of TP, CP and DP."""
    return (
        parallel_state.is_pipeline_last_stage(ignore_virtual=True)
        and parallel_state.get_tensor_model_parallel_rank() == 0
        and parallel_state.get_data_parallel_rank(with_context_parallel=True) == 0
    )
