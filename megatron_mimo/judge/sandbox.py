"""One bubblewrap sandbox: started for one solution, asked for one test after the other over a socket."""

import marshal
import os
import select
import socket
import subprocess
from dataclasses import dataclass

import msgspec

from megatron_mimo.judge.bubblewrap import Host, command
from megatron_mimo.judge.inside.supervisor import WALL_PER_CPU_SECOND
from megatron_mimo.judge.request import Limits
from megatron_mimo.judge.seccomp import program_filter, sandbox_filter

GRACE_SECONDS = 60.0
"""Beyond a test's limits before the sandbox itself counts as broken; the supervisor stops the test far earlier."""
LEAVE_SECONDS = 1.0
MESSAGE_BYTES = 4096


class SandboxDied(Exception):
    """The sandbox did not start, did not answer or answered nonsense: a fault of the judge, not of the solution."""


@dataclass(frozen=True)
class SandboxOutcome:
    """What the supervisor measured of one run."""

    wait_status: int
    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    reason: int
    """0, or which limit the supervisor enforced: 1 CPU, 2 waiting, 3 number of files, 4 no processor in a long time."""
    dirty: bool
    """/tmp was changed: the next test needs a new sandbox."""

    @property
    def exit_code(self) -> int:
        """Exit status, or minus the signal that ended the program."""
        return os.waitstatus_to_exitcode(self.wait_status)


class Sandbox:
    """Close it when the solution is done; everything inside dies with it."""

    def __init__(self, host: Host, limits: Limits, uid: int, preload: list[str], with_compiler: bool = False) -> None:
        """Start it. `uid`: of its programs, where the host is root. Raises SandboxDied if it does not answer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket, self._log = ours, os.memfd_create("judge-log")
        self._wall_seconds = limits.wall_seconds + WALL_PER_CPU_SECOND * limits.cpu_seconds
        filter_fd = memory_file(sandbox_filter())
        try:
            self._process = subprocess.Popen(
                command(host, limits.scratch_bytes, filter_fd, with_compiler),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=(filter_fd,),
            )
        finally:
            theirs.close()
            os.close(filter_fd)
        setup = {
            "uid": uid if host.is_root else None,
            "limits": msgspec.to_builtins(limits),
            "filter": program_filter(limits.may_fork),
            "preload": preload,
        }
        try:
            self._ask("setup", setup, [], GRACE_SECONDS)
        except SandboxDied:
            self.close()
            raise

    def run(self, do: str, message: dict, fds: list[int]) -> SandboxOutcome:
        """One request that runs a program. Raises SandboxDied."""
        numbers = self._ask(do, message, fds, self._wall_seconds + GRACE_SECONDS)
        if len(numbers) != 6:
            raise SandboxDied(f"an answer of {len(numbers)} numbers")
        status, processor, wall, peak, reason, dirty = numbers
        return SandboxOutcome(status, processor / 1e6, wall / 1e6, peak * 1024, reason, bool(dirty))

    def load_binary(self, binary: int) -> None:
        """Give the compiled program of a C++ solution, a descriptor. Raises SandboxDied."""
        self._ask("load_binary", {}, [binary], GRACE_SECONDS)

    def _ask(self, do: str, message: dict, fds: list[int], timeout_seconds: float) -> list[int]:
        try:
            socket.send_fds(self._socket, [marshal.dumps({"do": do, **message}, 2)], fds)
            self._socket.settimeout(timeout_seconds)
            reply = self._socket.recv(MESSAGE_BYTES)
            if not reply:
                raise SandboxDied(f"the sandbox ended: {self._last_words()}")
            return [int(word) for word in reply.split()]
        except (OSError, ValueError) as error:
            raise SandboxDied(f"{type(error).__name__}: {error}; {self._last_words()}") from error

    def _last_words(self) -> str:
        return read_tail(self._log, 2000).decode(errors="replace").strip() or "it said nothing"

    def close(self) -> None:
        """End it, with all that runs inside: the supervisor leaves when the socket closes, or is killed."""
        self._socket.close()
        ended = os.pidfd_open(self._process.pid)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        if not poller.poll(LEAVE_SECONDS * 1000):
            self._process.kill()
        os.close(ended)
        self._process.wait()
        os.close(self._log)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def memory_file(data: bytes = b"") -> int:
    """Descriptor of an unnamed file in memory that holds `data`, read from its start."""
    fd = os.memfd_create("judge")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_tail(fd: int, size: int) -> bytes:
    """The last `size` bytes of a file."""
    return os.pread(fd, size, max(0, os.fstat(fd).st_size - size))
