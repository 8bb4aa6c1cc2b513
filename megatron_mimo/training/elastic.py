"""The launcher: `megatron-mimo pretrain CONFIG --nproc 2` starts this node's ranks on torch's elastic agent.

It does what torchrun does, and beyond that: ranks have all the time they need to save when the launcher is told to
stop, their exit codes (0, 2, 85, 86) come through, an error is one message, and on one node a free port is found.
"""

import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from megatron_mimo.config import LoopConfig, UserError
from megatron_mimo.platform.signals import STOPPED_EXIT_CODE, Stopped, handled
from megatron_mimo.training.launch import COMMAND_VARIABLE, USER_ERROR_EXIT_CODE
from megatron_mimo.training.launch_options import Ranks, split_options


def with_ranks(
    module: str, run: Callable[[list[str]], int], settings: Callable[[list[str]], LoopConfig | None]
) -> Callable[[list[str]], int]:
    """A program that takes the launcher's options beside its own arguments.

    `settings(arguments)` loads the configuration, which so is checked before any rank is started; None where the
    arguments ask for something that needs no ranks.
    """

    def program(arguments: list[str]) -> int:
        options, rest = split_options(arguments)
        if options is None:
            return run(rest)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise UserError("--nproc and its companions start the ranks themselves: leave torchrun out, or the options")
        config = settings(rest)
        if config is None or options.is_one_process:
            return run(rest)
        config.check_world_size(options.world_size)
        name = sys.argv[0] if sys.argv[0].startswith("megatron-mimo ") else f"python -m {module}"
        os.environ[COMMAND_VARIABLE] = f"{name} {shlex.join(arguments)}"
        return start_ranks(module, options, rest, config.guard.requeue_exit_code)

    return program


def start_ranks(module: str, options: Ranks, arguments: list[str], requeue_exit_code: int) -> int:
    """Run `python -m module arguments` in every rank of this node to the end; the exit code that they agree on."""
    # Imported late: a configuration with a fault is refused before torch is there.
    import torch.distributed as dist
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    from megatron_mimo.training.elastic_agent import exit_code, make_agent
    from megatron_mimo.training.preemption import STARTED_AT_VARIABLE

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if options.nproc > 1:
        # One thread a rank for libraries that ask nobody; torch's own threads are set by num_threads.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[STARTED_AT_VARIABLE] = str(time.time())
    # Other signals are this launcher's; torch's agent would give the ranks 30 seconds, saved or not.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    final = (USER_ERROR_EXIT_CODE, STOPPED_EXIT_CODE, requeue_exit_code)
    try:
        agent = make_agent(options, [sys.executable, "-u", "-m", module, *arguments], final)
        with handled(lambda number, frame: _pass_on(agent, number, frame)):
            result: Any = agent.run()
    except (dist.DistNetworkError, dist.DistStoreError, RendezvousError, ValueError) as error:
        place = options.rdzv_endpoint or f"{options.master_addr}:{options.master_port or 'a free port'}"
        raise UserError(
            f"cannot meet the other nodes at {place}: {str(error).splitlines()[0]}\nStart every node with the same"
            " --nnodes, --master-addr and --master-port, and its own --node-rank."
        ) from error
    if not result.is_failed():
        return 0
    codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
    return exit_code(codes, agent.stopped_by, final, resume=os.environ[COMMAND_VARIABLE])


def _pass_on(agent: Any, number: int, frame: FrameType | None) -> None:
    """The ranks stop after their step and save; a second Ctrl-C ends them at once."""
    if agent.stopped_by is not None and number == signal.SIGINT:
        agent.signal_ranks(signal.SIGKILL)
        os._exit(128 + number)
    agent.stopped_by = agent.stopped_by or number
    if not agent.signal_ranks(number):
        raise Stopped(signal.Signals(number).name)
