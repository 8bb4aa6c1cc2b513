"""Held-out arithmetic problems: greedy completions, one answer each, accuracy with a confidence interval.

The file holds one problem a line, `{"id", "prompt", "answer"}`. A completion is right when the FIRST
`\\boxed{...}` in it holds exactly the answer: a model that runs on into a question of its
own is judged by what it was asked.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import UserError

BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
NORMAL_QUANTILE_95 = 1.959963984540054


@dataclass(frozen=True)
class HeldOutProblem:
    """One prompt and the answer that its worked solution ends in."""

    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Accuracy:
    """Share of problems solved, with its 95 % Wilson interval."""

    correct: int
    total: int
    accuracy: float
    low: float
    high: float


def read_problems(path: Path) -> list[HeldOutProblem]:
    """Read a problem file; raises UserError naming the line that is not a problem."""
    if not path.is_file():
        raise UserError(f"no held-out problems at {path}: make the data first (megatron-mimo data)")
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            problems.append(HeldOutProblem(str(record["id"]), str(record["prompt"]), str(record["answer"])))
        except (ValueError, KeyError, TypeError) as error:
            wanted = '{"id": ..., "prompt": ..., "answer": ...}'
            raise UserError(f"{path}, line {number} is not a problem: write {wanted}") from error
    return problems


def extract_answer(completion: str) -> str | None:
    """Content of the first `\\boxed{...}`, stripped; None without one."""
    match = BOXED.search(completion)
    return match.group(1).strip() if match else None


def score(problems: list[HeldOutProblem], completions: list[str]) -> Accuracy:
    """Accuracy of one completion a problem; raises ValueError when their numbers differ or are zero."""
    if len(problems) != len(completions) or not problems:
        raise ValueError(f"{len(completions)} completions for {len(problems)} problems")
    correct = sum(extract_answer(c) == p.answer for p, c in zip(problems, completions, strict=True))
    low, high = wilson_interval(correct, len(problems))
    return Accuracy(correct, len(problems), correct / len(problems), low, high)


def wilson_interval(successes: int, trials: int, quantile: float = NORMAL_QUANTILE_95) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927); it stays inside [0, 1] and is sound near both ends."""
    share, spread = successes / trials, quantile**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
