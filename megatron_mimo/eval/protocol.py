"""What a benchmark is: problems with prompts, and a grade for every answer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.clients.endpoint import Message
from megatron_mimo.config import UserError
from megatron_mimo.eval.records import Source, locate, read_records
from megatron_mimo.judge.pool import JudgePool
from megatron_mimo.judge.preparation import solution_for
from megatron_mimo.judge.request import Limits, Test
from megatron_mimo.judge.result import JudgeResult, Verdict
from megatron_mimo.reward.router import Judge, MathReward


class GradeFault(Exception):
    """The grader failed, not the answer: grade again, never score it."""


@dataclass(frozen=True, kw_only=True)
class EvalProblem:
    """One problem of a benchmark."""

    id: str
    messages: list[Message]
    question: str = ""
    """Its own words, without instruction and examples."""
    reference: Any
    """What `Task.grade` compares with; never shown to the model."""
    shown: str
    """The reference in reports."""
    golden: str | None = None
    """An answer that must be graded right, where the benchmark has one."""
    options: tuple[str, ...] = ()
    """Of multiple choice."""
    prompt: str | None = None
    """A text to continue with, in place of messages: base models."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    pairs: tuple[tuple[str, str], ...] = ()
    """(context, continuation) whose log-likelihoods are asked for in place of an answer: the response is their list."""
    group: str = ""
    """Subject or difficulty: results are broken down by it."""


@dataclass(frozen=True)
class Grade:
    """Outcome for one answer."""

    score: float
    """Between 0 and 1."""
    answer: str | None = None
    """What was taken out of the response; None: nothing of the demanded form, which scores 0."""
    verdict: str = ""
    details: dict[str, float] = field(default_factory=dict)
    """Other scores of the same answer."""


@dataclass(frozen=True, kw_only=True)
class Graders:
    """Where answers are verified; those that no task of a run needs are never started."""

    math: MathReward | None = None
    judge: Judge | None = None

    async def same_mathematics(self, response: str, answer: str) -> bool:
        """Whether the last boxed answer equals `answer`. Raises GradeFault where the verifier fails."""
        from megatron_mimo.reward.math_answer import MathFault

        assert self.math is not None, "the task declares needs = {'math'}"
        try:
            return await self.math.reward(response, answer) == 1.0
        except MathFault as error:
            raise GradeFault(str(error)) from error

    async def run_tests(self, source: str, tests: list[Test], limits: Limits) -> JudgeResult:
        """Verdict of a program, in the judge's sandbox alone. Raises GradeFault where the judge fails."""
        from megatron_mimo.judge.client import JudgeUnavailable

        assert self.judge is not None, "the task declares needs = {'judge'}"
        try:
            result = await self.judge.judge(
                solution_for(source, tests), tests, limits=limits, stop_at_first_failure=True
            )
        except JudgeUnavailable as error:
            raise GradeFault(str(error)) from error
        if result.verdict is Verdict.JUDGE_FAULT:
            raise GradeFault("; ".join(test.message for test in result.tests if test.message)[:500])
        return result

    @property
    def pool(self) -> JudgePool:
        """The local judge, for tasks that read a program's output. Raises UserError with judge servers."""
        if not isinstance(self.judge, JudgePool):
            raise UserError("runner lcb-compat needs the judge of this machine: leave judge_urls empty")
        return self.judge


class Benchmark(Protocol):
    """What a run needs of a task; RULER and the harness are others than files."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def version(self) -> str: ...

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade: ...


class NoAnswer(Exception):
    """A record of a benchmark that nothing can be graded by: it is left out, and said."""


class EvalTask(ABC):
    """A benchmark read from a file, a record per problem."""

    name: str
    files: tuple[str, ...]
    """Usual names of its file, without the ending."""
    needs: frozenset[str] = frozenset()
    """Of `math` and `judge`."""
    version: str = "1"
    """Raised when the grading changes: stored grades are then made anew, answers kept."""

    split: str = "test"
    """Of a folder's files those of this split are read."""

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        """What was left out or is missing, for the user."""

    @abstractmethod
    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        """The problem of a record; None leaves it out (not of the split or dates asked for). KeyError: no field."""

    @abstractmethod
    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        """Grade a response. Raises GradeFault when the grader, not the response, failed."""

    def load(self, *files: Path | Source) -> list[EvalProblem]:
        """All problems of the files, in their order.

        Raises UserError for records that are none, repeated ids, and no problem at all. Records without a right answer
        are left out, and `notes` say so.
        """
        problems: dict[str, EvalProblem] = {}
        left_out: list[str] = []
        number = 0
        for source in (file if isinstance(file, Source) else Source(file) for file in files):
            for place, record in enumerate(read_records(source.path), start=1):
                number += 1
                named = {"subject": source.subject} | record if source.subject else record
                try:
                    problem = self._read(named, number, f"{source.path}, record {place}")
                except NoAnswer as error:
                    left_out.append(f"{source.path.name} record {place} ({error})")
                    continue
                if problem is not None and problem.id in problems:
                    raise UserError(f"{source.path}, record {place}: the id {problem.id} stands twice")
                if problem is not None:
                    problems[problem.id] = problem
        if left_out:
            self.notes.append(f"{len(left_out)} of {number} records left out: {'; '.join(left_out[:3])}")
        if not problems:
            raise UserError(f"{files[0]} holds no problem of task {self.name} (of {number} records)")
        return list(problems.values())

    def _read(self, record: dict[str, Any], number: int, place: str) -> EvalProblem | None:
        try:
            return self.problem(record, number)
        except KeyError as error:
            fields = ", ".join(sorted(map(str, record)))
            raise UserError(f"{place} has no {error.args[0]}, which task {self.name} needs; it has {fields}") from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{place} is no problem of task {self.name}: {error}") from error

    def find(self, folder: str, path: str | None) -> list[Source]:
        """Its files, see records.locate."""
        return locate(folder, path, self.files, self.name, self.split)


def user(prompt: str) -> list[Message]:
    """A conversation of one question."""
    return [{"role": "user", "content": prompt}]


def first(record: dict[str, Any], *names: str) -> Any:
    """The first of the fields that is there; raises KeyError naming all."""
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise KeyError(" or ".join(names))
