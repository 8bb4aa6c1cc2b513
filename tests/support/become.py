"""In a forked process: be the program that a new interpreter would run."""

import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def become(program: Sequence[str], variables: dict[str, str], folder: str) -> None:
    """Run `program` (`-m MODULE`, `-c CODE` or a file, and arguments) as Python would, in `folder`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A new interpreter's seed comes from the system; this process has that of the process it is forked from.
    sys.modules["torch"].seed()
    kind, *rest = program
    paths = variables.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder if kind in ("-m", "-c") else str(Path(kind).resolve().parent), *paths]
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(program)
        runpy.run_path(kind, run_name="__main__")
