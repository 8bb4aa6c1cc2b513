"""The launcher's options: how many ranks, on which nodes, where they meet; torchrun's names."""

import argparse
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

from megatron_mimo.config import UserError

LAUNCH_USAGE = """
starting the ranks (without these options, one process):
  --nproc N          ranks on this machine: a number, gpu (one for each GPU) or auto
  --max-restarts N   start the ranks again, from the newest checkpoint, when one of them crashes (default 0)
  --master-port P    a port of one's own; without it a free one is taken (on several nodes it must be given)
  --nnodes N, --node-rank R, --master-addr HOST, --rdzv-backend, --rdzv-endpoint, --rdzv-id, --rdzv-conf
                     several nodes, as torchrun names them: docs/cluster.md"""
LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Ranks:
    """How to start the ranks of this node."""

    nproc: int
    nnodes: int
    node_rank: int
    master_addr: str
    master_port: int | None
    max_restarts: int
    rdzv_backend: str | None
    rdzv_endpoint: str
    rdzv_id: str
    rdzv_conf: str

    @property
    def world_size(self) -> int:
        return self.nproc * self.nnodes

    @property
    def is_one_process(self) -> bool:
        """Nothing that needs a launcher."""
        return self.world_size == 1 and self.max_restarts == 0 and self.rdzv_backend is None


def split_options(arguments: list[str]) -> tuple[Ranks | None, list[str]]:
    """The launcher's options, None where there are none, and the program's arguments. Raises UserError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)

    def option(name: str, **settings: Any) -> None:
        parser.add_argument(*dict.fromkeys([name, name[:2] + name[2:].replace("-", "_")]), **settings)

    parser.add_argument("--nproc", "--nproc-per-node", "--nproc_per_node", default=None)
    option("--nnodes", type=int)
    option("--node-rank", type=int)
    option("--master-addr")
    option("--master-port", type=int)
    option("--max-restarts", type=int)
    for name in ("--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--rdzv-conf"):
        option(name)
    try:
        found, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}\n{LAUNCH_USAGE}") from error
    given = {name: value for name, value in vars(found).items() if value is not None}
    if not given:
        return None, rest
    nnodes = given.get("nnodes", 1)
    ranks = Ranks(
        nproc=_process_count(given.get("nproc", "1")),
        nnodes=nnodes,
        node_rank=given.get("node_rank", 0),
        # On one node a variable of another job is no address of this one.
        master_addr=given.get("master_addr") or (os.environ.get("MASTER_ADDR", LOCAL) if nnodes > 1 else LOCAL),
        master_port=given.get("master_port", _port_variable()),
        max_restarts=given.get("max_restarts", 0),
        rdzv_backend=given.get("rdzv_backend"),
        rdzv_endpoint=given.get("rdzv_endpoint", ""),
        rdzv_id=given.get("rdzv_id", "none"),
        rdzv_conf=given.get("rdzv_conf", ""),
    )
    _check(ranks)
    return ranks, rest


def _process_count(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text not in ("gpu", "cpu", "auto"):
        raise UserError(f"--nproc {text}: give a number of processes from 1 on, or gpu, cpu or auto")
    from torch.distributed.run import determine_local_world_size

    try:
        return determine_local_world_size(text)
    except ValueError as error:
        raise UserError(f"--nproc {text}: {error} Give a number of processes") from error


def _port_variable() -> int | None:
    text = os.environ.get("MASTER_PORT", "")
    if text and not text.isdecimal():
        raise UserError(f"MASTER_PORT={text}: give a port between 1 and 65535, or unset it")
    return int(text) if text else None


def _check(ranks: Ranks) -> None:
    if ranks.nnodes < 1 or ranks.max_restarts < 0 or not 0 <= ranks.node_rank < ranks.nnodes:
        raise UserError(
            f"--nnodes {ranks.nnodes} --node-rank {ranks.node_rank} --max-restarts {ranks.max_restarts}: nodes count"
            " from 1, their ranks from 0, restarts from 0"
        )
    if ranks.master_port is not None and not 0 < ranks.master_port < 65536:
        raise UserError(f"--master-port {ranks.master_port}: a port lies between 1 and 65535")
    if ranks.nnodes > 1 and ranks.rdzv_backend is None and ranks.master_port is None:
        raise UserError("several nodes need --master-addr and --master-port, or --rdzv-backend and --rdzv-endpoint")
    is_static = ranks.rdzv_backend in (None, "static") and not ranks.rdzv_endpoint
    if is_static and ranks.master_port is not None and ranks.node_rank == 0 and not is_free(ranks.master_port):
        raise UserError(
            f"port {ranks.master_port} is in use by another program or run on this machine: choose another with"
            f" --master-port or MASTER_PORT{'' if ranks.nnodes > 1 else ', or give none and a free one is taken'}"
        )


def is_free(port: int) -> bool:
    """Whether a server on this machine could listen there."""
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((host, port))
                probe.listen()
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a machine without IPv6
                return False
    return True
