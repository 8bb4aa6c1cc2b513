"""A verifiable problem and its JSON line. What the reward needs is in it; the prompt is what the model is asked."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.judge.preparation import solution_for
from megatron_mimo.judge.request import Solution, Test
from megatron_mimo.reward.router import CodeProblem, MathProblem


class Problem(msgspec.Struct, kw_only=True):
    """One line of a problem file."""

    id: str
    prompt: str
    kind: Literal["math", "code"]
    answer: str = ""
    """Of mathematics, as it stands in its source: never rewritten to an integer."""
    tests: list[Test] = []
    language: Literal["python", "cpp"] = "python"
    golden: str = ""
    """A solution that should be right; empty: unknown."""
    levels: list[int] | None = None
    """Difficulty level of every test, 0 the easiest (reward/code_difficulty.py)."""
    scores: list[float] = msgspec.field(default_factory=lambda: [1.0])
    pass_rate: float | None = None
    """Over rollouts; None: not rolled out."""
    source: str = ""

    def for_reward(self, scores: list[float] | None = None) -> MathProblem | CodeProblem:
        """What the reward router takes."""
        if self.kind == "math":
            return MathProblem(answer=self.answer)
        return CodeProblem(tests=self.tests, levels=self.levels, scores=scores or self.scores, language=self.language)

    def golden_solution(self) -> Solution:
        return solution_for(self.golden, self.tests, self.language)


def to_document(problem: Problem) -> Document:
    """The problem as a pipeline document: its prompt is the text, so steps for texts (decontamination) apply."""
    return Document(
        problem.id, problem.prompt, source=problem.source, metadata={"problem": msgspec.to_builtins(problem)}
    )


def from_document(document: Document) -> Problem:
    """The problem that a document carries. Raises UserError for a document of another kind."""
    try:
        return msgspec.convert(document.metadata["problem"], Problem)
    except (KeyError, msgspec.ValidationError) as error:
        raise UserError(f"document {document.id} holds no problem: {error}; read it with a problem reader") from error


def read_problems(path: Path) -> Iterator[Problem]:
    """The problems of a file that `write_problems` made. Raises UserError naming file and line."""
    decoder = msgspec.json.Decoder(Problem)
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise UserError(f"{path}, line {number} is no problem: {error}") from error


def write_problems(path: Path, problems: Iterable[Problem]) -> int:
    """One JSON object per line, under a temporary name until complete; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, number = path.with_name(path.name + ".tmp"), 0
    with temporary.open("wb") as file:
        for problem in problems:
            file.write(msgspec.json.encode(problem) + b"\n")
            number += 1
    temporary.replace(path)
    return number


def read_lines(path: Path) -> Iterator[str]:
    """Non-empty lines of a text file; raises UserError where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, JSON object) of every line. Raises UserError naming the line that is none."""
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path.name}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number} is not a JSON object")
        yield place, record
