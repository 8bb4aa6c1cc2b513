"""Append-only JSONL of finished work: a run that is killed at any time loses nothing and doubles nothing."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from megatron_mimo.config import UserError


class Journal:
    """Records with a unique `id`, each on the disk before `append` returns; one writer at a time.

    `with Journal(path) as journal:` repairs the file first: a last line that a kill cut short is removed. Raises
    UserError for a file that another process writes and for a line inside that is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: set[str] = set()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{self.path} is being written by another process: wait for it or stop it") from error
        self._file.truncate(_whole_lines_bytes(self.path))
        self.ids = {record["id"] for record in read_records(self.path)}
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; its `id` must be new."""
        assert self._file is not None, "use `with Journal(...)`"
        if record["id"] in self.ids:
            raise ValueError(f"{record['id']} is in {self.path} already")
        self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.ids.add(record["id"])


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal in the order they were written; a last line without its end is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                record["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number} is not a record: remove the line; its work is repeated"
                ) from error
            yield record


def _whole_lines_bytes(path: Path) -> int:
    """Size of the file up to its last line end."""
    with path.open("rb") as file:
        size = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            end = file.read(position - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            position = start
    return 0 if size else size
