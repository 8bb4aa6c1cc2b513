"""What is read off records that are sorted by a key: the best document of every group, and links between its members.

All functions walk over the sorted blocks of `runs.merge` and carry a group that continues from one block to the next,
so a group may be larger than memory.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from megatron_mimo.data.dedup.runs import RunWriter, merge, ranges
from megatron_mimo.data.dedup.work import (
    BANDS,
    EXACT,
    INDEX_COLUMNS,
    OLD_BADNESS,
    TEXTS,
    URL,
    URLS,
    WINNERS,
    Work,
)
from megatron_mimo.data.pipeline.step import Task

EDGES = "stars-00"
"""Folder of the links: document, document, each link in both directions."""


def group_urls(work: Work, task: Task) -> None:
    """Stage over ranges of hashes: the best document of every URL."""
    _write_winners(work, task, URLS, URL)


def group_texts(work: Work, task: Task) -> None:
    """Stage over ranges of hashes: the best document of every text; links of documents of one text or band key."""
    links = RunWriter(work.file(EDGES, task.index), 2, work.config.memory_bytes // 4)
    _write_winners(work, task, TEXTS, EXACT, links)
    low, high = ranges(task.num_tasks, task.index)
    for block, first in with_first(merge(work.with_index(BANDS), 2, low, high, work.config.memory_bytes // 2), 1):
        task.count("dedup/links", _link(links, block[:, 1], first))
    links.close()


def save_index(work: Work, task: Task) -> None:
    """Stage over ranges of hashes: one record for every key of the old index and of this run."""
    low, high = ranges(task.num_tasks, task.index)
    for kind, columns in INDEX_COLUMNS.items():
        writer = RunWriter(work.file(f"index/{kind}", task.index), columns, work.config.memory_bytes // 2)
        for block, first in with_first(
            merge(work.with_index(kind), columns, low, high, work.config.memory_bytes // 2), -1
        ):
            new = block[block[:, -1] == first]
            new[:, 1:-1] = OLD_BADNESS
            writer.add(*new.T)
        writer.close()


def with_first(blocks: Iterable[np.ndarray], column: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every block with, for each record, the value of `column` in the first record of its group, uint64 [n]."""
    key, value = None, None
    for block in blocks:
        starts = group_starts(block)
        values = block[starts, column]
        if key is not None and block[0, 0] == key:
            values[0] = value
        key, value = block[-1, 0], values[-1]
        yield block, np.repeat(values, np.diff(starts, append=len(block)))


def group_starts(block: np.ndarray) -> np.ndarray:
    """Index of the first record of every group in a sorted block that is not empty."""
    return np.concatenate([[0], np.flatnonzero(block[1:, 0] != block[:-1, 0]) + 1])


def choose_best(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of records (group, badness, document): (document, kept document, size) for all groups of two or more.

    The first record of a group is its best; its size is given with the kept document and 0 with the dropped ones.
    """
    open_winner, open_size = np.zeros(0, np.uint64), 0
    for block, winners in with_first(blocks, 2):
        dropped = block[:, 2] != winners
        yield block[dropped, 2], winners[dropped], np.zeros(int(dropped.sum()), np.uint64)
        starts = group_starts(block)
        sizes = np.diff(starts, append=len(block)).astype(np.uint64)
        closed = winners[starts]
        if len(open_winner) and closed[0] == open_winner[0]:
            sizes[0] += np.uint64(open_size)
        elif len(open_winner):
            closed, sizes = np.concatenate([open_winner, closed]), np.concatenate([[np.uint64(open_size)], sizes])
        open_winner, open_size = closed[-1:], int(sizes[-1])
        yield _of_several(closed[:-1], sizes[:-1])
    yield _of_several(open_winner, np.array([open_size], np.uint64)[: len(open_winner)])


def write_best(work: Work, task: Task, kind: int, blocks: Iterable[np.ndarray], links: RunWriter | None = None) -> None:
    """Write the winners' file of a task from records (group, badness, document), and links to the best of a group."""
    writer = RunWriter(work.file(WINNERS[kind], task.index), 4, work.config.memory_bytes // 4)
    for documents, kept, sizes in choose_best(blocks):
        writer.add(documents, np.full(len(documents), kind, np.uint64), kept, sizes)
        if links is not None:
            _link(links, documents, kept)
    writer.close()


def _write_winners(work: Work, task: Task, source: str, kind: int, links: RunWriter | None = None) -> None:
    low, high = ranges(task.num_tasks, task.index)
    blocks = merge(work.with_index(source), 3, low, high, work.config.memory_bytes // 2)
    write_best(work, task, kind, blocks, links)


def _link(links: RunWriter, documents: np.ndarray, others: np.ndarray) -> int:
    """Add links between pairs of different documents; returns their number."""
    differ = documents != others
    links.add(documents[differ], others[differ])
    links.add(others[differ], documents[differ])
    return int(differ.sum())


def _of_several(winners: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    several = sizes > 1
    return winners[several], winners[several], sizes[several]
