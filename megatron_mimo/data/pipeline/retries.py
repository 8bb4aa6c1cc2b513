"""Which tasks that did not end well are tried again, and which document a task must pass over."""

import json
from collections import Counter
from collections.abc import Callable

from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import Breadcrumb
from megatron_mimo.data.pipeline.outcome import StepOutcome
from megatron_mimo.platform.files import write_json

TRIES = 2


class Retries:
    """A task is tried twice. When both times its worker crashed on the same document (a parser in C fails on it), the
    task is told to pass over that document, and has two tries for the rest. Who was killed from outside proves nothing
    against a document: a rerun would no longer give the same bytes."""

    def __init__(self, stage: str, layout: Layout) -> None:
        self.stage, self.layout = stage, layout
        self.tries: Counter[int] = Counter()
        self.crashed_at: dict[int, str] = {}
        self.passed_over: Counter[int] = Counter()

    def may_try_again(self, outcome: StepOutcome, report: Callable[[str], None]) -> bool:
        """Take note of an attempt that was not done."""
        self.tries[outcome.index] += 1
        if outcome.result == "stopped":
            return False
        if outcome.result in ("crashed", "died"):
            document = Breadcrumb.read(self.layout.breadcrumb(self.stage, outcome.index))
            report(f"{self.stage}: task {outcome.index} was at document {document or 'none yet'}")
            if outcome.result == "crashed" and document:
                self._note_crash(outcome.index, document, report)
        return self.tries[outcome.index] < TRIES * (1 + self.passed_over[outcome.index])

    def _note_crash(self, index: int, document: str, report: Callable[[str], None]) -> None:
        if self.crashed_at.get(index) == document:
            path = self.layout.skip(self.stage, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            write_json(path, [*known, document])
            self.passed_over[index] += 1
            report(f"{self.stage}: task {index} passes over {document}: two workers crashed on it")
        self.crashed_at[index] = document
