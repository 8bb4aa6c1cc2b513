"""Documents through the steps of a stage: counted between them, timed, and a bad document alone is left behind."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Step, Task

SOURCE = "read"
SINK = "write"
"""Names under which a stage's input and output are counted and timed."""


class Clock:
    """CPU seconds of each step for itself: time between two switches is charged to the step that was resumed."""

    def __init__(self) -> None:
        self.cpu_seconds: dict[str, float] = {SOURCE: 0.0}
        self._current, self._since = SOURCE, time.process_time()

    def switch(self, name: str) -> None:
        now = time.process_time()
        self.cpu_seconds[self._current] = self.cpu_seconds.get(self._current, 0.0) + now - self._since
        self._current, self._since = name, now


def chained(
    steps: Sequence[Step],
    documents: Iterable[Document],
    task: Task,
    clock: Clock,
    skip: Sequence[str] = (),
    on_document: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """The documents that come out of the last step.

    `task` gets `STEP/in`, `STEP/out` and bytes of text. Documents called in `skip` are dropped unseen. `on_document` is
    told the id of every document before a step sees it.
    """
    names = [step.name for step in steps] + [SINK]
    for name in names:  # in the order of the stage: the last step is switched to first
        clock.cpu_seconds.setdefault(name, 0.0)
    current = _source(documents, task, set(skip), on_document)
    current = _handed_over(current, SOURCE, names[0], clock)
    for step, following in zip(steps, names[1:], strict=True):
        current = _handed_over(_guarded(step, current, task), step.name, following, clock)
    for document in current:
        task.count(f"{SINK}/text_bytes", len(document.text.encode()))
        yield document


def _source(
    documents: Iterable[Document], task: Task, skip: set[str], on_document: Callable[[str], None] | None
) -> Iterator[Document]:
    for document in documents:
        try:
            task.count(f"{SOURCE}/text_bytes", len(document.text.encode()))
        except UnicodeEncodeError:  # lone surrogates are no text: nothing can write them
            document.text = document.text.encode(errors="replace").decode()
            task.count(f"{SOURCE}/invalid_unicode")
        if document.id in skip:
            task.fault(SOURCE, document.id, "a worker crashed on this document, twice")
            task.drop(document, SOURCE, "worker crashed")
            continue
        if on_document is not None:
            on_document(document.id)
        yield document


def _handed_over(documents: Iterator[Document], giver: str, taker: str, clock: Clock) -> Iterator[Document]:
    """Switch the clock to whoever is at work on the two sides of this iterator."""
    while True:
        clock.switch(giver)
        document = next(documents, None)
        clock.switch(taker)
        if document is None:
            return
        yield document


class _Feed:
    """What a step takes its documents from: remembers the last, and whether the trouble came from before the step."""

    def __init__(self, documents: Iterator[Document]) -> None:
        self.documents, self.taken, self.last, self.failed = documents, 0, None, False

    def __iter__(self) -> "Iterator[Document]":
        return self

    def __next__(self) -> Document:
        try:
            self.last: Document | None = next(self.documents)
        except StopIteration:
            raise
        except BaseException:
            self.failed = True
            raise
        self.taken += 1
        return self.last


def _guarded(step: Step, documents: Iterator[Document], task: Task) -> Iterator[Document]:
    """`step.run`, started again behind a document that it raised for; that one is a fault and dropped.

    Only where no other document can be lost with it: when the step holds back none. Otherwise the task fails.
    """
    feed, given, dropped_before = _Feed(documents), 0, _dropped(task, step.name)
    while True:
        try:
            for document in step.run(feed, task):
                given += 1
                yield document
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:
            held_back = feed.taken - given - (_dropped(task, step.name) - dropped_before)
            if feed.failed or feed.last is None or held_back != 1:
                raise
            task.fault(step.name, feed.last.id, error)
            task.drop(feed.last, step.name, "error")
            continue
        task.count(f"{step.name}/in", feed.taken)
        task.count(f"{step.name}/out", given)
        return


def _dropped(task: Task, step: str) -> int:
    return sum(number for name, number in task.counts.items() if name.startswith(f"{step}/dropped/"))
