"""Remarks to the user that are made once per process, however often the occasion comes."""

import functools
import os
import sys


@functools.cache
def say_once(line: str) -> None:
    """Print a line to standard error the first time that it is said; of a run's ranks only the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)
