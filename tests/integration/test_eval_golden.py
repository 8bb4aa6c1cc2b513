"""Golden answers of public benchmarks are graded right, other problems' answers wrong, through the tasks themselves.

The data is looked for in $MEGATRON_MIMO_BENCHMARKS or ../shared/data/benchmarks.
"""

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, GradeFault, Graders
from megatron_mimo.eval.registry import file_tasks
from megatron_mimo.judge import JudgeConfig, JudgePool
from megatron_mimo.reward.math_answer import MathVerifier

DATA = Path(os.environ.get("MEGATRON_MIMO_BENCHMARKS", Path(__file__).parents[3] / "shared/data/benchmarks"))
pytestmark = pytest.mark.slow
SHUFFLED = 600
"""Problems whose answers are exchanged, of sets with more."""


def load(name: str, file: str) -> tuple[EvalTask, list[EvalProblem]]:
    if not (DATA / file).exists():
        pytest.skip(f"no {file} in {DATA}")
    if "judge" in file_tasks()[name].needs and shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    task = file_tasks()[name]
    return task, task.load(*task.find("", str(DATA / file)))


async def grade_all(task: EvalTask, pairs: list[tuple[EvalProblem, str]]) -> list[float | None]:
    """Scores of (problem, response), two workers at a time; None where the grader cannot tell."""
    math = MathVerifier(2) if "math" in task.needs else None
    judge = JudgePool(JudgeConfig(num_slots=2)) if "judge" in task.needs else None
    graders = Graders(math=math, judge=judge)
    try:
        graded = (task.grade(problem, response, graders) for problem, response in pairs)
        grades = await asyncio.gather(*graded, return_exceptions=True)
    finally:
        for grader in (math, judge):
            if grader is not None:
                grader.close()
    return [_score(grade) for grade in grades]


def _score(grade: Grade | BaseException) -> float | None:
    """A golden answer that is no formula and not what was answered is a fault of the grader's, never a zero."""
    if isinstance(grade, GradeFault):
        return None
    if isinstance(grade, BaseException):
        raise grade
    return grade.score


@pytest.mark.parametrize(
    ("name", "file", "count", "share"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319, 1.0),
        ("math", "math_test.jsonl", 5000, 0.995),
        ("amc23", "amc23.jsonl", 40, 1.0),
        ("aime24", "aime24", 30, 1.0),
        ("minerva_math", "minerva_math", 272, 0.995),
        ("gaokao2023en", "gaokao2023en", 383, 1.0),
        ("sat_math", "sat_math", 32, 1.0),
        ("mmlu", "mmlu", 14042, 1.0),
        ("ceval", "ceval", 1346, 1.0),
        ("agieval", "agieval", 8268, 0.995),
        ("humaneval", "HumanEval.jsonl.gz", 164, 1.0),
        ("mbpp_all", "mbpp.jsonl", 974, 0.99),
        ("cruxeval_o", "cruxeval.jsonl", 800, 1.0),
        ("cruxeval_i", "cruxeval.jsonl", 800, 1.0),
    ],
)
def test_golden_answers_are_right(name: str, file: str, count: int, share: float) -> None:
    task, problems = load(name, file)
    assert len(problems) == count
    scores = asyncio.run(grade_all(task, [(problem, problem.golden or "") for problem in problems]))
    wrong = [problem.id for problem, score in zip(problems, scores, strict=True) if score != 1.0]
    print(f"{name}: {count - len(wrong)} of {count}; not: {wrong[:20]}")
    assert len(wrong) <= (1 - share) * count, wrong


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gsm8k", "gsm8k_test.jsonl"),
        ("math", "math_test.jsonl"),
        ("humaneval", "HumanEval.jsonl.gz"),
        ("mbpp_all", "mbpp.jsonl"),
        ("amc23", "amc23.jsonl"),
        ("cruxeval_o", "cruxeval.jsonl"),
        ("aime24", "aime24"),
        ("minerva_math", "minerva_math"),
        ("gaokao2023en", "gaokao2023en"),
        ("sat_math", "sat_math"),
        ("mmlu", "mmlu"),
        ("ceval", "ceval"),
        ("agieval", "agieval"),
    ],
)
def test_answers_of_other_problems_are_rejected(name: str, file: str) -> None:
    """Not CRUXEval's inputs: any that gives the output is right, and another problem's does now and then."""
    task, problems = load(name, file)
    pairs = exchanged(problems)
    scores = asyncio.run(grade_all(task, pairs))
    accepted = [problem.id for (problem, _), score in zip(pairs, scores, strict=True) if score]
    faults = scores.count(None)
    print(f"{name}: {len(accepted)} of {len(pairs)} wrong answers accepted: {accepted[:10]}; {faults} cannot be told")
    assert faults <= 0.02 * len(pairs)
    assert len(accepted) <= 0.005 * len(pairs), accepted


def exchanged(problems: list[EvalProblem]) -> list[tuple[EvalProblem, str]]:
    """Problems with the golden answer of another one whose reference reads differently."""
    chosen = random.Random(0).sample(problems, min(SHUFFLED, len(problems)))
    pairs = []
    for place, problem in enumerate(chosen):
        others = (chosen[(place + step) % len(chosen)] for step in range(1, len(chosen)))
        other = next(one for one in others if differ(one, problem))
        pairs.append((problem, other.golden or ""))
    return pairs


def differ(one: EvalProblem, other: EvalProblem) -> bool:
    if one.options and other.options:
        return one.reference != other.reference
    return normal(one.shown) != normal(other.shown)


def normal(text: str) -> str:
    return "".join(letter for letter in text.replace("dfrac", "frac") if letter.isalnum() or letter in "-+.")
