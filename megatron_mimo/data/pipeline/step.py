"""What a pipeline is made of: steps over documents, stages of independent tasks, and a task's record of its work.

A `Step` is a dataclass: its fields are its options in the pipeline's YAML. It turns a stream of documents into another
and tells the `Task` what it drops (with a reason), counts, and could not read. A `Stage` is `num_tasks` calls of one
function; tasks share nothing but files, so any of them can die and be run again alone. Stages run one after another.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from megatron_mimo.data.document import Document

SAMPLES_KEPT = 3
"""Documents shown in the report for every step and reason."""
SAMPLE_CHARACTERS = 600


@dataclass
class Fault:
    """A record that could not be read or processed: where it is, and why."""

    place: str
    error: str


@dataclass
class Task:
    """One task of a stage: its place among its siblings, and what happened in it."""

    index: int = 0
    num_tasks: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    """`step/name` -> number, `step/dropped/reason` for dropped documents."""
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """The first documents of each kind: `step/kept`, `step/dropped/reason`."""
    faults: list[Fault] = field(default_factory=list)
    step_cpu_seconds: dict[str, float] = field(default_factory=dict)
    """CPU seconds of each step for itself, where the frame runs the steps."""
    on_drop: Callable[[Document, str, str], None] | None = None
    """Called with every dropped document, its step and the reason: the frame writes them to a file."""

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter; `name` is `step/what`."""
        self.counts[name] += number

    def drop(self, document: Document, step: str, reason: str) -> None:
        """Take note of a document that ends here, and why (a short constant text: it is counted by it)."""
        self.count(f"{step}/dropped/{reason}")
        self.sample(f"{step}/dropped/{reason}", document)
        if self.on_drop is not None:
            self.on_drop(document, step, reason)

    def fault(self, step: str, place: str, error: Exception | str) -> None:
        """Take note of a record that could not be read: counted and listed; the run continues."""
        self.count(f"{step}/faults")
        self.faults.append(Fault(place, str(error) if isinstance(error, str) else f"{type(error).__name__}: {error}"))

    def sample(self, kind: str, document: Document) -> None:
        """Keep the document's beginning for the report while there are few of its kind."""
        kept = self.samples.setdefault(kind, [])
        if len(kept) < SAMPLES_KEPT:
            kept.append({"id": document.id, "url": document.url, "text": document.text[:SAMPLE_CHARACTERS]})


class Step(Protocol):
    """A dataclass with a name and a generator over documents."""

    name: str

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield the documents that continue; call `task.drop` for every other one."""
        ...


@dataclass(frozen=True)
class Stage:
    """`num_tasks` independent calls of `run`, each on a `Task` with its own index; it reads and writes files."""

    name: str
    num_tasks: int
    run: Callable[[Task], None]
    output: Path | None = None
    """Folder of the shards that the tasks write, one each; None for a stage with files of its own kind."""
    dropped: str = "text"
    """What is kept of dropped documents: text, ids or none."""
