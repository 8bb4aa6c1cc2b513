"""Difficulty by rollouts: pass rates, what they drop (report section 3.1), and the levels of a problem's tests.

The caller rolls models out and scores the responses (scheduler/validation.py streams both); here are the decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from megatron_mimo.config import ConfigError
from megatron_mimo.reward.code_difficulty import assign_levels, pass_rates
from megatron_mimo.rl.problems.problem import Problem


@dataclass(frozen=True, kw_only=True)
class RolloutResults:
    """Responses of one kind of model to one problem; samples whose judge failed are left out."""

    solved: Sequence[bool]
    passed: Sequence[Sequence[bool]] = ()
    """Of code: the tests that each response passed, [rollouts, tests]."""


@dataclass(frozen=True, kw_only=True)
class DifficultyRules:
    """The report's numbers."""

    num_rollouts: int = 16
    max_math_pass_rate: float = 0.9
    """Mathematics solved more often than this by the model to be trained goes."""

    def __post_init__(self) -> None:
        if self.num_rollouts < 1:
            raise ConfigError("num_rollouts", self.num_rollouts, "must be at least 1")
        if not 0 < self.max_math_pass_rate <= 1:
            raise ConfigError("max_math_pass_rate", self.max_math_pass_rate, "must be above 0 and at most 1")


def why_drop(
    problem: Problem, trained: RolloutResults, advanced: RolloutResults | None, rules: DifficultyRules
) -> str | None:
    """The reason to drop a problem, or None.

    trained: rollouts of the (SFT) model to be trained; advanced: of stronger models, None where nobody asked them.
    Fewer responses than asked for (judge faults) are judged by what is there, none at all is no evidence.
    """
    if advanced is not None and advanced.solved and is_unsolved(problem, advanced):
        return "unsolved"
    if not trained.solved:
        return None
    rate = sum(trained.solved) / len(trained.solved)
    if problem.kind == "math":
        return "too easy" if rate > rules.max_math_pass_rate else None
    return "too easy" if rate == 1 else None


def is_unsolved(problem: Problem, advanced: RolloutResults) -> bool:
    """Mathematics: nobody right. Code with a golden solution is solvable; without one: no test case ever passed."""
    if problem.kind == "math":
        return not any(advanced.solved)
    return not problem.golden and not any(any(row) for row in advanced.passed) and not any(advanced.solved)


def with_levels(problem: Problem, passed: Sequence[Sequence[bool]], scores: Sequence[float]) -> Problem:
    """The code problem with a level for every test, from rollouts of several models; `scores`: of the levels.

    passed: [rollouts, tests], every test run (no early stop), judge faults left out. Raises ConfigError without any.
    """
    if not passed or any(len(row) != len(problem.tests) for row in passed):
        raise ConfigError(
            "passed", len(passed), f"give rollouts with one result for each of {len(problem.tests)} tests"
        )
    levels = assign_levels(pass_rates(passed), len(scores))
    return msgspec.structs.replace(problem, levels=levels, scores=list(scores))
