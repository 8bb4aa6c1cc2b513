"""Output that outlasts its reader: a terminal that is closed, or the `tee` behind the pipe that Ctrl-C ended first."""

import errno
import io
import os
import signal
import sys
from typing import Any


class Lasting(io.FileIO):
    """Writes until nobody reads any more; then into nothing, and the program gets the SIGHUP of a lost terminal.

    It is for the program to save and stop, instead of dying of the line that it wanted to print about that.
    """

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        os.kill(os.getpid(), signal.SIGHUP)
        return len(data)


def outlast_readers() -> None:
    """Make standard output and error Lasting, where they are still those that Python opened."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lasting(sys.stderr)


def _lasting(stream: Any) -> Any:
    try:
        stream.flush()
        raw = Lasting(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError, AttributeError):  # no file behind it
        return stream
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
