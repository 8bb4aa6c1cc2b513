"""One task of a stage, run to its marker: the marker comes last, so a task has finished or left no trace."""

import dataclasses
import mmap
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.shards import ShardWriter, remove_leftovers, shard_path
from megatron_mimo.data.pipeline.step import Fault, Stage, Task
from megatron_mimo.platform.files import file_sha256, write_json

FAULTS_LISTED = 1000
"""Faults of a task that its marker names; the counts hold all of them."""
BREADCRUMB_BYTES = 4096


@dataclass(kw_only=True)
class Marker:
    """`done/STAGE/00003.json`."""

    stage: str
    index: int
    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    step_cpu_seconds: dict[str, float] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    """Files it wrote (below `output_dir`) and their bytes."""
    sha256: dict[str, str] = field(default_factory=dict)


@contextmanager
def _dropped_documents(path: Path, task: Task, keep: str) -> Iterator[None]:
    """Write what `task.drop` gets as long as this lasts."""
    if keep == "none":
        yield
        return
    with ShardWriter(path) as writer:

        def on_drop(document: Document, step: str, reason: str) -> None:
            record: dict[str, Any] = {"step": step, "reason": reason, "id": document.id, "url": document.url}
            if keep == "text":
                record |= {"text": document.text, "source": document.source, "metadata": document.metadata}
            writer.write(record)

        task.on_drop = on_drop
        try:
            yield
        finally:
            task.on_drop = None


def run_task(stage: Stage, index: int, layout: Layout) -> Marker:
    """Run a task and write its marker; an exception leaves its traceback in `failed/` and is raised again."""
    wall, cpu = time.monotonic(), time.process_time()
    task = Task(index, stage.num_tasks)
    dropped = layout.dropped(stage.name, index)
    for shard in [dropped, *([shard_path(stage.output, index)] if stage.output else [])]:
        remove_leftovers(shard)
    try:
        with _dropped_documents(dropped, task, stage.dropped):
            stage.run(task)
    except Exception:
        path = layout.failure(stage.name, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
        raise
    outputs = [shard_path(stage.output, index)] if stage.output else []
    outputs += [dropped] if dropped.exists() else []
    marker = Marker(
        stage=stage.name,
        index=index,
        counts=dict(task.counts),
        samples=task.samples,
        faults=task.faults[:FAULTS_LISTED],
        wall_seconds=time.monotonic() - wall,
        cpu_seconds=time.process_time() - cpu,
        step_cpu_seconds=task.step_cpu_seconds,
        files={str(path.relative_to(layout.root)): path.stat().st_size for path in outputs},
        sha256={str(path.relative_to(layout.root)): file_sha256(path) for path in outputs},
    )
    _write(layout.marker(stage.name, index), marker)
    layout.failure(stage.name, index).unlink(missing_ok=True)
    layout.breadcrumb(stage.name, index).unlink(missing_ok=True)
    return marker


def _write(path: Path, marker: Marker) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dataclasses.asdict(marker))


def read_marker(layout: Layout, stage: str, index: int) -> Marker | None:
    """The marker of a finished task; None where there is none, or a file that it wrote has gone or changed its size."""
    try:
        marker = msgspec.json.decode(layout.marker(stage, index).read_bytes(), type=Marker)
        sizes = {name: (layout.root / name).stat().st_size for name in marker.files}
    except (OSError, msgspec.MsgspecError):
        return None
    return marker if sizes == marker.files else None


def damaged_files(layout: Layout, marker: Marker) -> list[str]:
    """The files of a finished task whose content is no longer what it wrote."""
    return [
        name
        for name, expected in marker.sha256.items()
        if not (layout.root / name).is_file() or file_sha256(layout.root / name) != expected
    ]


class Breadcrumb:
    """The document a task is at, in a file that outlives the process; a microsecond a document."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w+b") as file:
            file.truncate(BREADCRUMB_BYTES)
            self._page = mmap.mmap(file.fileno(), BREADCRUMB_BYTES)

    def note(self, identifier: str) -> None:
        data = identifier.encode()[: BREADCRUMB_BYTES - 1]
        self._page[: len(data) + 1] = data + b"\0"

    @staticmethod
    def read(path: Path) -> str:
        """The id noted last; empty when there is none."""
        try:
            return path.read_bytes().partition(b"\0")[0].decode(errors="replace")
        except OSError:
            return ""
