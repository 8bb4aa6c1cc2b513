"""The last product of deduplication: a small file a shard that says what to drop, for which document, and why.

A file is the number of documents of the shard (uint64), then records of `DECISION`, by position: one for every
document that is dropped, and one for every document that was kept instead of others.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from megatron_mimo.config.errors import UserError
from megatron_mimo.data.dedup.groups import group_starts
from megatron_mimo.data.dedup.runs import merge
from megatron_mimo.data.dedup.work import BADNESS, EXACT, NEAR, POSITION_BITS, URL, WINNERS, Work
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

DECISION = np.dtype([("position", "<u8"), ("kept", "<u8"), ("copies", "<u4"), ("kind", "<u4")])
"""Place in the shard; number of the document kept for it; documents it stands for, when kept; 0 or the kind."""
REASONS = {URL: "url duplicate", EXACT: "exact duplicate", NEAR: "near duplicate"}
_KEPT = 0
_NO_DECISION = (-1, 0, 0, 0)
_AT_ONCE = 4096


def write_decisions(work: Work, task: Task) -> None:
    """Stage over shards: one file of decisions."""
    path = decisions_path(work.folder / "decisions", task.index)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    low, high = work.first_number(task.index), work.first_number(task.index + 1)
    files = [file for folder in WINNERS.values() for file in work.files(folder)]
    num_documents = work.file(BADNESS, task.index).stat().st_size // 8
    with temporary.open("wb") as out:
        out.write(np.array([num_documents], "<u8").tobytes())
        for block in whole_groups(merge(files, 4, low, high, work.config.memory_bytes)):
            decisions = _decide(block)
            out.write(decisions.tobytes())
            for kind, reason in REASONS.items():
                task.count(f"dedup/{reason}", int((decisions["kind"] == kind).sum()))
    os.replace(temporary, path)


def decisions_path(folder: str | Path, index: int) -> Path:
    """Decisions on shard `index`."""
    return Path(folder) / f"{index:05d}.bin"


def read_decisions(path: Path) -> tuple[int, Iterator[tuple[int, int, int, int]]]:
    """Number of documents of the shard, and (position, kept, copies, kind) in order; `kind` 0 was kept."""
    if not path.is_file():
        raise UserError(
            f"no decisions at {path}: give the `decisions` folder of a finished deduplication of this input"
        )
    head = np.fromfile(path, "<u8", 1)
    if not len(head) or (path.stat().st_size - 8) % DECISION.itemsize:
        raise UserError(f"{path} is damaged: delete it and run its task again")
    return int(head[0]), _records(path)


def with_decisions(
    folder: str | Path, documents: Iterable[Document], task: Task
) -> Iterator[tuple[Document, int, int, int]]:
    """The documents of shard `task.index`, read in full and in order, with (kept, copies, kind) of each.

    A document without duplicates has (its own position, 1, 0). Raises UserError when the shard is not the one that
    was deduplicated.
    """
    path = decisions_path(folder, task.index)
    num_documents, decisions = read_decisions(path)
    place, kept, copies, kind = next(decisions, _NO_DECISION)
    number = 0
    for number, document in enumerate(documents, start=1):
        if number - 1 == place:
            yield document, kept, copies, kind
            place, kept, copies, kind = next(decisions, _NO_DECISION)
        else:
            yield document, number - 1, 1, _KEPT
    if number != num_documents:
        raise UserError(f"{path} is about {num_documents} documents, task {task.index} read {number}: another shard")


def _records(path: Path) -> Iterator[tuple[int, int, int, int]]:
    with path.open("rb") as file:
        file.seek(8)
        while len(records := np.fromfile(file, DECISION, _AT_ONCE)):
            yield from records.tolist()


def whole_groups(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same records in blocks that end where a (small) group ends."""
    held = None
    for block in blocks:
        joined = block if held is None else np.concatenate([held, block])
        last = group_starts(joined)[-1]
        held = joined[last:]
        if last:
            yield joined[:last]
    if held is not None:
        yield held


def _decide(winners: np.ndarray) -> np.ndarray:
    """Decisions on the documents of whole groups of winners' records (document, kind, kept, size)."""
    starts = group_starts(winners)
    kinds, sizes = winners[:, 1], winners[:, 3]
    dropped = sizes == 0
    first_kind = np.minimum.reduceat(np.where(dropped, kinds, np.uint64(9)), starts)
    # Records of a document are in the order of kinds: the last one that drops it names the best of its cluster.
    last_drop = np.maximum.reduceat(np.where(dropped, np.arange(len(winners)), -1), starts)
    by_text = np.maximum.reduceat(np.where(kinds > URL, sizes, np.uint64(1)), starts)
    by_url = np.maximum.reduceat(np.where(kinds == URL, sizes, np.uint64(1)), starts)
    decisions = np.zeros(len(starts), DECISION)
    decisions["position"] = winners[starts, 0] & np.uint64(2**POSITION_BITS - 1)
    is_kept = last_drop < 0
    decisions["kind"] = np.where(is_kept, _KEPT, first_kind)
    decisions["kept"] = np.where(is_kept, winners[starts, 0], winners[last_drop, 2])
    decisions["copies"] = np.where(is_kept, np.minimum(by_text + by_url - np.uint64(1), np.uint64(2**32 - 1)), 0)
    return decisions
