"""Connected components by rounds of contraction: union-find for many tasks, in constant memory.

Each round is the large-star and the small-star operation of Kiveris et al. 2014 (Connected Components in MapReduce and
Beyond), each one external sort. Large-star links every larger neighbour of a document to the smallest neighbour,
small-star every smaller neighbour and the document itself; both keep the components. A round that changes nothing
has found a forest of stars: every document linked to the smallest of its component. Later rounds then end at once.
"""

from collections.abc import Iterator

import numpy as np

from megatron_mimo.config.errors import UserError
from megatron_mimo.data.dedup.groups import EDGES, with_first, write_best
from megatron_mimo.data.dedup.runs import RunWriter, merge
from megatron_mimo.data.dedup.work import BADNESS, MEMBERS, NEAR, OLD_BADNESS, POSITION_BITS, Work
from megatron_mimo.data.pipeline.step import Task

_POSITION = np.uint64(2**POSITION_BITS - 1)
_BADNESS_AT_ONCE = 2**16


def large_star(work: Work, task: Task, round_number: int) -> None:
    """Stage over ranges of documents: links (v, smallest neighbour of u) for all neighbours v >= u."""
    if _is_contracted(work, round_number - 1):
        return
    changes = 0
    writer = RunWriter(work.file(_large(round_number), task.index), 2, work.config.memory_bytes // 2)
    for block, first in _neighbours(work, task, _stars(round_number - 1)):
        document = block[:, 0]
        smallest = np.minimum(document, first)
        larger = block[:, 1] >= document
        changes += int((larger & (smallest != document)).sum())
        writer.add(block[larger, 1], smallest[larger])
    _write_changes(work, _large(round_number), task, changes)
    writer.close()


def small_star(work: Work, task: Task, round_number: int) -> None:
    """Stage over ranges of documents: links of u and its smaller neighbours to the smallest, in both directions."""
    if _is_contracted(work, round_number - 1):
        return
    changes = 0
    writer = RunWriter(work.file(_stars(round_number), task.index), 2, work.config.memory_bytes // 2)
    for block, smallest in _neighbours(work, task, _large(round_number)):
        changes += int((block[:, 1] != smallest).sum())
        for one in (block[:, 1], block[:, 0]):
            writer.add(one, smallest)
            writer.add(smallest, one)
    _write_changes(work, _stars(round_number), task, changes)
    writer.close()


def write_members(work: Work, task: Task) -> None:
    """Stage over ranges of documents: records (root, badness, document) of all clusters."""
    last = next((r for r in range(1, work.config.cluster_rounds + 1) if _is_contracted(work, r)), None)
    if last is None:
        raise UserError(
            f"{work.config.cluster_rounds} rounds did not contract the clusters: raise dedup.cluster_rounds and run "
            "again (finished rounds are kept)"
        )
    writer = RunWriter(work.file(MEMBERS, task.index), 3, work.config.memory_bytes // 2)
    for block, root in _neighbours(work, task, _stars(last)):
        member = block[:, 1] == root
        documents = block[member, 0]
        writer.add(root[member], _badness_of(work, documents), documents)
    writer.close()


def group_members(work: Work, task: Task) -> None:
    """Stage over ranges of documents: the best document of every cluster."""
    low, high = work.number_range(task.index)
    write_best(work, task, NEAR, merge(work.files(MEMBERS), 3, low, high, work.config.memory_bytes // 2))


def _neighbours(work: Work, task: Task, folder: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of links sorted by document, with each document's smallest neighbour."""
    low, high = work.number_range(task.index)
    return with_first(merge(work.files(folder), 2, low, high, work.config.memory_bytes // 2), 1)


def _large(round_number: int) -> str:
    return f"large-{round_number:02d}"


def _stars(round_number: int) -> str:
    return f"stars-{round_number:02d}" if round_number else EDGES


def _write_changes(work: Work, folder: str, task: Task, changes: int) -> None:
    """Before the task's records: where those stand, so does this."""
    path = work.file(folder, task.index, "changes")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{changes}\n")


def _is_contracted(work: Work, round_number: int) -> bool:
    """True when this round had nothing to change, or an earlier one (then this one has left no files)."""
    if round_number == 0:
        return False
    names = [name(round_number) for name in (_large, _stars)]
    paths = (work.file(name, i, "changes") for name in names for i in range(work.config.partitions))
    return not any(path.exists() and int(path.read_text()) for path in paths)


def _badness_of(work: Work, documents: np.ndarray) -> np.ndarray:
    """uint64 [n] of sorted document numbers; indexed ones are better than all others."""
    result = np.full(len(documents), OLD_BADNESS, np.uint64)
    if not len(documents):
        return result
    # Only a stretch of a shard's file is in memory at once.
    stretches = documents // np.uint64(_BADNESS_AT_ONCE)
    starts = np.flatnonzero(np.concatenate([[True], stretches[1:] != stretches[:-1]]))
    for start, end in zip(starts, [*starts[1:], len(documents)], strict=True):
        shard = (int(documents[start]) >> POSITION_BITS) - work.first_shard
        if shard < 0:
            continue
        first, last = (int(documents[i] & _POSITION) for i in (start, end - 1))
        stretch = np.fromfile(work.file(BADNESS, shard), "<u8", last - first + 1, offset=8 * first)
        result[start:end] = stretch[(documents[start:end] & _POSITION).astype(np.int64) - first]
    return result
