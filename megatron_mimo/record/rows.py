"""`metrics.jsonl`, the record of a run: one JSON object per line with its `kind` and `step`. One writer, one reader.

A number that is not finite is written as Python's json module writes and reads it: NaN, Infinity.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError

METRICS = "metrics.jsonl"
VALIDATION_PROBLEMS = "validation_problems.jsonl"
"""Of RL runs: a row per validation with the share of solved samples of every problem."""
TIMELINE = "timeline.json"
"""Of RL runs: what each engine did in the newest step."""
Row = dict[str, Any]


class RowLog:
    """Appends rows to a file; a line has reached the operating system when `append_row` returns."""

    def __init__(self, path: Path) -> None:
        """Create the file or continue with it; raises UserError where it cannot be written."""
        self.path = path
        with file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A line that a crash cut off must not swallow the first new one.
            self._write("\n" if _ends_torn(path) else "")

    def append_row(self, kind: str, values: Row) -> None:
        """Write one line; raises UserError on a full disk."""
        self._write(json.dumps({"kind": kind} | values) + "\n")

    def truncate_after(self, step: int) -> None:
        """Drop the lines of steps beyond `step`, torn ones and such as name no step; the old file stands until the new
        one is complete."""
        temporary, damaged = self.path.with_name(self.path.name + ".tmp"), 0
        with file_errors(self.path), temporary.open("w", encoding="utf-8") as file:
            for line, row in read_lines(self.path):
                number = None if row is None else row.get("step")
                damaged += not isinstance(number, int)
                if isinstance(number, int) and number <= step:
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, self.path)
        if damaged > 1:  # one is what a kill leaves
            print(f"{self.path}: {damaged} lines were damaged and are left out", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        with file_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(text)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows in order, those left out that a crash cut off; raises UserError where the file cannot be read."""
    with file_errors(path):
        yield from (row for _, row in read_lines(path) if row is not None)


def read_lines(path: Path) -> Iterator[tuple[str, Row | None]]:
    """Each line that is not blank, with its row, or None where it was cut off. Raises OSError."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            whole = line.endswith("\n") and isinstance(row, dict)
            yield line, row if whole else None


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """OSErrors inside become UserErrors that name the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read or write the metrics {path}: {error.strerror}") from error


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
