"""Programs forked from one that has imported vLLM: `python vllm_forks.py SOCKET`; `support.warm_vllm` starts it.

Who connects says what to run, hands over its standard streams, may send signals, and hears the exit code. Between the
two stands a process that ends the program with whoever asked for it.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from support.become import become

IMPORTED = (
    "vllm.entrypoints.llm",
    "vllm.entrypoints.openai.api_server",
    "vllm.model_executor.models.mimo_mtp",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.spec_decode.eagle",
    "vllm.v1.worker.cpu_worker",
    "megatron_mimo.cli.evaluate",
    "megatron_mimo.eval.session",
    "megatron_mimo.serve.mtp_proposer",
)
PROGRAMS = ("vllm.entrypoints.openai.api_server",)
"""Imported for what they import; forked processes run them as `__main__`."""
LARGEST_MESSAGE_BYTES = 1 << 20


def main(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        import_all()
        signal.signal(signal.SIGCHLD, reap)
        # The end of standard input is the end of the tests.
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                run_for(connection)
                return
            connection.close()


def import_all() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    for module in PROGRAMS:
        del sys.modules[module]
    fork_what_spawns()


def fork_what_spawns() -> None:
    """vLLM on a CPU spawns its engine and worker, new interpreters with the same imports: here they are forked."""
    from vllm.platforms.cpu import CpuPlatform

    platform: Any = CpuPlatform
    check = platform.check_and_update_config.__func__

    def check_and_fork(cls: type, *arguments: Any, **settings: Any) -> None:
        check(cls, *arguments, **settings)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    platform.check_and_update_config = classmethod(check_and_fork)


def reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run_for(connection: socket.socket) -> None:
    """The program in a process of its own, which returns from here; the one in between does not."""
    message, streams, _, _ = socket.recv_fds(connection, LARGEST_MESSAGE_BYTES, 3)
    request = json.loads(message)
    child = os.fork()
    if child:
        stand_between(connection, child)
    connection.close()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    join_group(request["group"])
    become(request["program"], request["environment"], request["folder"])


def join_group(group: int) -> None:
    """Signals to the group of whoever asked are for the program too; a group of another session cannot be joined."""
    try:
        os.setpgid(0, group)
    except PermissionError:
        os.setpgid(0, 0)


def stand_between(connection: socket.socket, child: int) -> NoReturn:
    """Pass signals on until the program ends, SIGKILL where the other side is gone; then the exit code."""
    ended = os.pidfd_open(child)
    while ended not in select.select([ended, connection], [], [])[0]:
        sent = connection.recv(LARGEST_MESSAGE_BYTES)
        with suppress(ProcessLookupError):
            os.kill(child, int(sent) if sent else signal.SIGKILL)
        if not sent:
            break
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left, where it has a group of its own
    with suppress(OSError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
