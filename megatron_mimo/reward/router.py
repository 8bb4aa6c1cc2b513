"""One entry for all rewards: by kind to mathematics or code. Accuracy alone; no format or length reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.judge.client import JudgeUnavailable
from megatron_mimo.judge.preparation import solution_for
from megatron_mimo.judge.request import Limits, Solution, Test
from megatron_mimo.judge.result import JudgeResult, Verdict
from megatron_mimo.reward import code_difficulty, language_mixing
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part
from megatron_mimo.reward.math_answer import MathFault

DEFAULT_LIMITS = Limits()
Scheme = Literal["strict", "soft", "all_or_nothing"]


class RewardFault(Exception):
    """The reward could not be computed, through no fault of the response: retry or drop, never score as 0."""


@dataclass(frozen=True, kw_only=True)
class MathProblem:
    """Compared with the response's last boxed answer."""

    answer: str


@dataclass(frozen=True, kw_only=True)
class CodeProblem:
    """Judged by tests. Without `levels` all tests form one level: all or nothing under `strict`."""

    tests: Sequence[Test]
    levels: Sequence[int] | None = None
    scores: Sequence[float] = (1.0,)
    language: Literal["python", "cpp"] = "python"
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward with its parts."""

    value: float
    accuracy: float
    """Before any penalty; of code, the reward over the most that can be earned."""
    language_penalty: float = 0.0
    verdict: Verdict | None = None
    passed: tuple[bool, ...] = ()


class MathReward(Protocol):
    """reward/math_answer.py, or a stand-in."""

    async def reward(self, response: str, answer: str) -> float: ...


class Judge(Protocol):
    """judge/pool.py, judge/client.py, or a stand-in."""

    async def judge(
        self,
        solution: Solution,
        tests: list[Test],
        *,
        limits: Limits | None = None,
        levels: list[int] | None = None,
        stop_at_first_failure: bool = False,
    ) -> JudgeResult: ...


class RewardRouter:
    """`await router.reward(problem, response)`."""

    def __init__(
        self,
        math: MathReward,
        judge: Judge | None,
        *,
        scheme: Scheme = "strict",
        language_penalty: float = 0.0,
    ) -> None:
        """judge: None where no code is asked for. scheme: of the code reward; `all_or_nothing` puts all tests into
        one level. language_penalty: times the share of letters in minority scripts; 0 is off."""
        if scheme not in get_args(Scheme):
            raise ConfigError("scheme", scheme, f"is one of {', '.join(get_args(Scheme))}")
        if language_penalty < 0:
            raise ConfigError("language_penalty", language_penalty, "must not be negative")
        self._math, self._judge = math, judge
        self._scheme: Scheme = scheme
        self._language_penalty = language_penalty

    async def reward(self, problem: MathProblem | CodeProblem, response: str) -> Reward:
        """Reward of a response. Raises RewardFault when judge or verifier failed."""
        penalty = self._language_penalty * language_mixing.minority_share(response) if self._language_penalty else 0.0
        try:
            if isinstance(problem, CodeProblem):
                return await self._code(problem, response, penalty)
            accuracy = await self._math.reward(response, problem.answer)
        except (MathFault, JudgeUnavailable) as error:
            raise RewardFault(str(error)) from error
        return Reward(value=accuracy - penalty, accuracy=accuracy, language_penalty=penalty)

    async def _code(self, problem: CodeProblem, response: str, penalty: float) -> Reward:
        source = last_code_block(final_part(response), problem.language)
        if self._judge is None:
            raise UserError("a code problem needs a judge, and this router was made without one")
        if source is None:
            return Reward(value=-penalty, accuracy=0.0, language_penalty=penalty)
        levels, scores = self._levels(problem)
        most = code_difficulty.max_reward(levels, scores)
        result = await self._judge.judge(
            solution_for(source, problem.tests, problem.language),
            list(problem.tests),
            limits=problem.limits,
            levels=levels,
            # A soft reward needs every test; the others are settled by the first failure.
            stop_at_first_failure=self._scheme != "soft",
        )
        if result.verdict is Verdict.JUDGE_FAULT:
            raise RewardFault(f"judge: {result.tests[0].message}")
        earned = code_difficulty.reward(result.passed, levels, scores, "soft" if self._scheme == "soft" else "strict")
        return Reward(
            value=earned - penalty,
            accuracy=earned / most if most else 0.0,
            language_penalty=penalty,
            verdict=result.verdict,
            passed=tuple(result.passed),
        )

    def _levels(self, problem: CodeProblem) -> tuple[list[int], Sequence[float]]:
        if problem.levels is None or self._scheme == "all_or_nothing":
            return [0] * len(problem.tests), (sum(problem.scores),)
        return list(problem.levels), problem.scores
