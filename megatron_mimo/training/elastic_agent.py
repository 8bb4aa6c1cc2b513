"""torch's elastic agent, made from the launcher's options, with our rules on what is started again."""

import os
import signal
import sys
import uuid
from contextlib import suppress
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from megatron_mimo.platform.signals import STOPPED_EXIT_CODE, signals_deferred
from megatron_mimo.training.launch_options import LOCAL, Ranks
from megatron_mimo.training.watchdog import HANG_EXIT_CODE


class Agent(LocalElasticAgent):
    """Starts the ranks again after a crash, but not after an end that another start would only repeat or undo."""

    final_codes: tuple[int, ...] = ()
    """Exit codes of such ends: an explained problem, a stop on request."""
    stopped_by: int | None = None
    """The signal that the ranks were told to stop by."""

    def signal_ranks(self, number: int) -> bool:
        """Send it to every rank that runs; False where none was started."""
        process_ids = self._pcontext.pids().values() if self._pcontext else ()
        for process_id in process_ids:
            with suppress(ProcessLookupError):
                os.kill(process_id, number)
        return bool(process_ids)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        # Deaf until their program listens: what comes sooner waits, instead of ending Python in the middle of a start.
        with signals_deferred():
            return super()._start_workers(worker_group)  # pyright: ignore[reportCallIssue, reportReturnType]

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)  # pyright: ignore[reportCallIssue]
        if result.state in (WorkerState.FAILED, WorkerState.UNHEALTHY) and self._remaining_restarts:
            codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
            if self.stopped_by is not None or any(code in self.final_codes for code in codes.values()):
                self._remaining_restarts = 0
            else:
                left = f"{self._remaining_restarts} of {worker_group.spec.max_restarts} restarts left"
                print(f"{how_it_ended(codes)}: starting the ranks again ({left})", file=sys.stderr, flush=True)
        return result


def make_agent(options: Ranks, command: list[str], final_codes: tuple[int, ...]) -> Agent:
    """The agent of this node; `command` is what each rank runs."""
    parameters = _rendezvous(options)
    is_static = parameters.backend == "static"
    host, _, port = parameters.endpoint.rpartition(":")
    spec = WorkerSpec(
        role="default",
        local_world_size=options.nproc,
        entrypoint=command[0],
        args=tuple(command[1:]),
        rdzv_handler=get_rendezvous_handler(parameters),
        max_restarts=options.max_restarts,
        monitor_interval=0.1,
        master_addr=host if is_static else None,
        master_port=int(port) if is_static else None,
        local_addr=LOCAL if options.nnodes == 1 else None,
    )
    agent = Agent(spec, DefaultLogsSpecs(log_dir=os.devnull))
    agent.final_codes = final_codes
    return agent


def _rendezvous(options: Ranks) -> RendezvousParameters:
    """Without a port on one node, torch's own rendezvous at a free one; else as torchrun does."""
    backend, endpoint, run_id = options.rdzv_backend or "static", options.rdzv_endpoint, options.rdzv_id
    if options.nnodes == 1 and options.rdzv_backend is None and options.master_port is None:
        backend, endpoint, run_id = "c10d", "localhost:0", str(uuid.uuid4())
    elif backend == "static" and not endpoint:
        endpoint = f"{options.master_addr}:{options.master_port}"
    pairs = [pair.partition("=") for pair in options.rdzv_conf.split(",") if pair]
    settings: dict[str, Any] = {"timeout": 900} | {key.strip(): value.strip() for key, _, value in pairs}
    if backend == "static":
        settings["rank"] = options.node_rank
    return RendezvousParameters(
        backend=backend,
        endpoint=endpoint,
        run_id=run_id,
        min_nodes=options.nnodes,
        max_nodes=options.nnodes,
        local_addr=LOCAL if options.nnodes == 1 else None,
        **settings,
    )


def exit_code(codes: dict[int, int], stopped_by: int | None, final: tuple[int, ...], resume: str) -> int:
    """One exit code for the codes by rank; where no rank has explained itself, a line on which one ended how.

    Ranks that lose one of them fail too, or are stopped: those that say what they ended for count first.
    """
    for known in (*final, HANG_EXIT_CODE):
        if known in codes.values():
            return known
    if stopped_by is not None and all(code < 0 for code in codes.values()):
        print(f"{signal.Signals(stopped_by).name}: stopped while starting, with nothing to save", file=sys.stderr)
        return STOPPED_EXIT_CODE
    print(f"{how_it_ended(codes)}; resume with: {resume}", file=sys.stderr, flush=True)
    _, code = first_failure(codes)
    return code if code > 0 else 128 - code


def first_failure(codes: dict[int, int]) -> tuple[int, int]:
    """(rank, exit code): the agent ends the others by SIGTERM once one has failed."""
    return min(codes.items(), key=lambda item: (item[1] == -signal.SIGTERM, item[0]))


def how_it_ended(codes: dict[int, int]) -> str:
    """`rank 1 was killed by SIGKILL`."""
    rank, code = first_failure(codes)
    if code > 0:
        return f"rank {rank} ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"rank {rank} was killed by {signal.Signals(-code).name}{hint}"
