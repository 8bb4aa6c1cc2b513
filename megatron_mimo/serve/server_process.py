"""A server with all the processes that it starts: a group of its own, which does not outlive its owner.

The engine of a server is a process of its own, and stays where the server is killed before it can end it. Here the
whole group ends: when the block is left, and, by a watcher, when the owner is killed and leaves nothing.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

STOP_SECONDS = 20
WATCH = 'read -r word || kill -s KILL -- "-$1"'
"""Reads the end of the owner's pipe: a word before the owner lets go, nothing where it is gone."""


class ServerProcess:
    """A running server, the first process of its group."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Also of the group."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Left unreaped, so that its number stays its own until the group is ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> int:
        """SIGTERM lets the server end its engine; SIGKILL follows for all that is left. Returns the exit code.

        Again, it returns the same: the number may belong to another process by then.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


@contextmanager
def server_process(command: list[str], environment: Mapping[str, str], log: IO[str]) -> Iterator[ServerProcess]:
    """Start `command`; its output goes to `log`. Its whole group has ended when the block is left."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        process_group=0,  # Ctrl-C in the terminal is for this program, which decides what ends
    )
    server, watcher = ServerProcess(process), None
    try:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watch", str(server.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # neither a terminal's signals nor its end are for it
        )
        yield server
    finally:
        server.end()
        if watcher is not None:
            watcher.communicate(b"over\n")
