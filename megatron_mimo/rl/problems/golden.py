"""The curation step that needs a judge: drop code problems whose golden solution fails a test."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.judge.request import Solution, Test
from megatron_mimo.judge.result import JudgeResult, Verdict
from megatron_mimo.rl.problems.problem import from_document


class BlockingJudge(Protocol):
    """judge/pool.py, or a stand-in."""

    def judge_now(self, solution: Solution, tests: list[Test], **options: object) -> JudgeResult: ...


@dataclass(kw_only=True)
class GoldenSolution:
    """Judges golden solutions. Problems without one pass: rollouts of advanced models decide (difficulty.py)."""

    name: ClassVar[str] = "golden"
    num_slots: int = 1
    """Programs judged at the same time."""

    def __post_init__(self) -> None:
        if self.num_slots < 1:
            raise ConfigError("num_slots", self.num_slots, "must be at least 1")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        from megatron_mimo.judge import JudgeConfig, JudgePool

        with JudgePool(JudgeConfig(num_slots=self.num_slots)) as judge:
            yield from self.check(documents, task, judge)

    def check(self, documents: Iterable[Document], task: Task, judge: BlockingJudge) -> Iterator[Document]:
        """The same with a judge that is there already. A fault of the judge keeps the problem and is reported."""
        for document in documents:
            problem = from_document(document)
            if problem.kind != "code" or not problem.golden.strip():
                yield document
                continue
            result = judge.judge_now(problem.golden_solution(), problem.tests, stop_at_first_failure=True)
            if result.verdict is Verdict.JUDGE_FAULT:
                task.fault(self.name, document.id, "the judge failed: run the step again on this problem")
                yield document
            elif result.verdict is Verdict.ACCEPTED:
                yield document
            else:
                task.drop(document, self.name, f"golden solution: {result.verdict}")
