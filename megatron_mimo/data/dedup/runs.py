"""External sorting: files of sorted runs of fixed-size records, and their merge in constant memory.

A record is a row of uint64 columns; records are ordered by all columns, from the first to the last, and repeated
records are one. A file holds one or more sorted runs, then their lengths; a merge reads the records of a range of the
first column out of every run of every file, so that tasks share the work by ranges.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_mimo.config.errors import UserError

MAX_KEY = 2**64
_TRAILER = struct.Struct("<QQ")
_FEWEST_RECORDS = 64
_SORT_COPIES = 4
"""Memory of sorting a block, in multiples of the block."""


def sort_unique(records: np.ndarray) -> np.ndarray:
    """uint64 [n, columns] in order, without repetitions."""
    if len(records) < 2:
        return records
    # Most first columns are hashes, nearly all different: one fast sort, then the ties alone by all columns.
    # (`take` and `compress` move whole records, several times as fast as indexing does.)
    records = records.take(np.argsort(records[:, 0]), axis=0)
    same = records[1:, 0] == records[:-1, 0]
    if not same.any():
        return records
    tied = np.concatenate([same, [False]])
    tied[1:] |= same
    places = np.flatnonzero(tied)
    ties = records.take(places, axis=0)
    ties = ties.take(np.lexsort(ties.T[::-1]), axis=0)
    records[places] = ties
    repeated = np.flatnonzero(np.logical_and.reduce([column[1:] == column[:-1] for column in ties.T]))
    if not len(repeated):
        return records
    new = np.ones(len(records), bool)
    new[places[repeated + 1]] = False
    return records.compress(new, axis=0)


class RunWriter:
    """Collects records, sorts them whenever memory is full, and leaves one whole file under its name on `close`."""

    def __init__(self, path: Path, columns: int, memory_bytes: int) -> None:
        self._path, self._columns = path, columns
        self._temporary = path.with_name(path.name + ".tmp")
        self._capacity = max(_FEWEST_RECORDS, memory_bytes // (8 * columns * _SORT_COPIES))
        self._buffer: list[np.ndarray] = []
        self._buffered = 0
        self._lengths: list[int] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb")

    def add(self, *columns: np.ndarray) -> None:
        """Add records, given as columns of uint64 [n]."""
        records = np.stack(columns, axis=1).astype(np.uint64, copy=False)
        for start in range(0, len(records), self._capacity):
            part = records[start : start + self._capacity]
            if self._buffered + len(part) > self._capacity:
                self._spill()
            self._buffer.append(part)
            self._buffered += len(part)

    def close(self) -> None:
        """Write what is left and give the file its name."""
        self._spill()
        self._file.write(np.array(self._lengths, "<u8").tobytes())
        self._file.write(_TRAILER.pack(self._columns, len(self._lengths)))
        self._file.close()
        os.replace(self._temporary, self._path)

    def _spill(self) -> None:
        if self._buffered:
            records = sort_unique(np.concatenate(self._buffer))
            self._file.write(np.ascontiguousarray(records, "<u8").data)
            self._lengths.append(len(records))
        self._buffer, self._buffered = [], 0


@dataclass
class _Run:
    """Part of a run that is still to be merged."""

    path: Path
    columns: int
    position: int
    """In records from the file's start."""
    end: int

    def read(self, count: int) -> np.ndarray:
        count = min(count, self.end - self.position)
        width = 8 * self.columns
        block = np.fromfile(self.path, "<u8", count * self.columns, offset=self.position * width)
        if len(block) != count * self.columns:
            raise UserError(f"{self.path} is cut short: delete it and run its task again")
        self.position += count
        return block.reshape(-1, self.columns).astype(np.uint64, copy=False)


def merge(paths: Iterable[Path], columns: int, low: int, high: int, memory_bytes: int) -> Iterator[np.ndarray]:
    """Records with low <= first column < high of all runs: sorted blocks uint64 [n, columns], no record twice.

    Every run has a block in memory; what lies before the first end of an unfinished run's block is complete and goes
    out.
    """
    runs = [run for path in paths for run in _open_runs(path, columns, low, high)]
    size = max(_FEWEST_RECORDS, memory_bytes // (8 * columns * _SORT_COPIES * max(1, len(runs))))
    blocks = [run.read(size) for run in runs]
    last: np.ndarray | None = None
    while runs:
        open_ends = [block[-1] for run, block in zip(runs, blocks, strict=True) if run.position < run.end]
        limit = tuple(min(map(tuple, open_ends))) if open_ends else None
        cuts = [_after(block, limit) for block in blocks]
        merged = sort_unique(np.concatenate([block[:cut] for block, cut in zip(blocks, cuts, strict=True)]))
        if last is not None and len(merged) and (merged[0] == last).all():
            merged = merged[1:]
        if len(merged):
            last = merged[-1]
            yield merged
        blocks = [_refill(run, block[cut:], size) for run, block, cut in zip(runs, blocks, cuts, strict=True)]
        left = [i for i, block in enumerate(blocks) if len(block)]
        runs, blocks = [runs[i] for i in left], [blocks[i] for i in left]


def _refill(run: _Run, block: np.ndarray, size: int) -> np.ndarray:
    """Top a block up when it is half empty, so that a round of the merge always gets half a block further."""
    if run.position == run.end or len(block) > size // 2:
        return block
    return np.concatenate([block, run.read(size - len(block))])


def ranges(num_tasks: int, index: int) -> tuple[int, int]:
    """Range of task `index` where the first column is a hash."""
    return index * MAX_KEY // num_tasks, (index + 1) * MAX_KEY // num_tasks


def _open_runs(path: Path, columns: int, low: int, high: int) -> Iterator[_Run]:
    """The non-empty parts of a file's runs within a range of the first column."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        lengths = _read_lengths(file.fileno(), size, columns, path)
        start = 0
        for length in lengths:
            first = _lower_bound(file.fileno(), columns, start, start + length, low)
            end = _lower_bound(file.fileno(), columns, first, start + length, high)
            if first < end:
                yield _Run(path, columns, first, end)
            start += length


def _read_lengths(file: int, size: int, columns: int, path: Path) -> list[int]:
    trailer = os.pread(file, _TRAILER.size, max(0, size - _TRAILER.size))
    found_columns, number = _TRAILER.unpack(trailer) if len(trailer) == _TRAILER.size else (0, 0)
    start = size - _TRAILER.size - 8 * number
    lengths = np.frombuffer(os.pread(file, 8 * number, start), "<u8").tolist() if start >= 0 else []
    if found_columns != columns or sum(lengths) * 8 * columns != start:
        raise UserError(f"{path} is damaged: delete it and run its task again")
    return lengths


def _lower_bound(file: int, columns: int, start: int, end: int, key: int) -> int:
    """First record of [start, end) whose first column is at least `key`."""
    if key >= MAX_KEY:
        return end
    while start < end:
        middle = (start + end) // 2
        if int.from_bytes(os.pread(file, 8, middle * 8 * columns), "little") < key:
            start = middle + 1
        else:
            end = middle
    return start


def _after(block: np.ndarray, limit: tuple[int, ...] | None) -> int:
    """Number of leading records of a sorted block that are not above `limit`."""
    if limit is None:
        return len(block)
    start, end = 0, len(block)
    for column, value in enumerate(limit):
        part = block[start:end, column]
        start, end = (
            start + int(np.searchsorted(part, value, "left")),
            start + int(np.searchsorted(part, value, "right")),
        )
    return end
