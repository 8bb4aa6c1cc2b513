"""Routing by kind, partial results, faults and the optional penalty, with stand-ins for judge and verifier."""

import asyncio
from typing import Any

import pytest

from megatron_mimo.config import ConfigError
from megatron_mimo.judge import JudgeResult, Solution, StdioTest, Verdict
from megatron_mimo.judge import TestResult as Result
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part
from megatron_mimo.reward.language_mixing import minority_share
from megatron_mimo.reward.router import CodeProblem, MathProblem, RewardFault, RewardRouter

TESTS = [StdioTest(stdin=str(n), stdout="") for n in range(3)]
CODE = "some words\n```python\nprint(1)\n```\n"


class FakeMath:
    async def reward(self, response: str, answer: str) -> float:
        return float(answer in response)


class FakeJudge:
    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts, self.asked = verdicts, {}

    async def judge(self, solution: Solution, tests: list, **options: Any) -> JudgeResult:
        self.asked = {"solution": solution, "tests": tests, **options}
        return JudgeResult.of([Result(verdict=verdict) for verdict in self.verdicts])


def rewarded(judge: FakeJudge, problem: MathProblem | CodeProblem, response: str, **options: Any):
    return asyncio.run(RewardRouter(FakeMath(), judge, **options).reward(problem, response))


PASS, FAIL, SKIP = Verdict.ACCEPTED, Verdict.WRONG_ANSWER, Verdict.SKIPPED


def test_by_kind() -> None:
    judge = FakeJudge(PASS, PASS, FAIL)
    assert rewarded(judge, MathProblem(answer="42"), "it is 42").value == 1.0
    assert judge.asked == {}
    problem = CodeProblem(tests=TESTS, levels=[0, 1, 2], scores=(1, 2, 3))
    found = rewarded(judge, problem, CODE)
    assert (found.value, found.accuracy, found.passed) == (3.0, 0.5, (True, True, False))
    assert judge.asked["solution"].source == "print(1)\n"
    assert judge.asked["stop_at_first_failure"] is True


def test_soft_runs_every_test_and_skipped_counts_as_failed() -> None:
    judge = FakeJudge(FAIL, PASS, PASS)
    problem = CodeProblem(tests=TESTS, levels=[0, 0, 1], scores=(1, 2))
    assert rewarded(judge, problem, CODE, scheme="soft").value == 2.5
    assert judge.asked["stop_at_first_failure"] is False
    assert rewarded(FakeJudge(FAIL, SKIP, SKIP), problem, CODE).value == 0.0


def test_without_levels_it_is_all_or_nothing() -> None:
    assert rewarded(FakeJudge(PASS, PASS, PASS), CodeProblem(tests=TESTS), CODE).value == 1.0
    assert rewarded(FakeJudge(PASS, PASS, FAIL), CodeProblem(tests=TESTS), CODE).value == 0.0


def test_a_fault_is_no_zero() -> None:
    with pytest.raises(RewardFault):
        rewarded(FakeJudge(PASS, Verdict.JUDGE_FAULT, PASS), CodeProblem(tests=TESTS), CODE)


def test_no_code_is_zero_without_a_judge() -> None:
    judge = FakeJudge()
    assert rewarded(judge, CodeProblem(tests=TESTS), "I cannot").value == 0.0
    assert judge.asked == {}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("```\na\n```", "a\n"),
        ("```python\na\n``` then ```py\nb\n```", "b\n"),
        ("<think>```\nx\n```</think> nothing", None),
        ("<think>```\nx\n```</think>```py\ny\n```", "y\n"),
        ("```python\na\n``` and ```python\ncut off", "a\n"),
        ("```python\ncut off", None),
        ("", None),
    ],
)
def test_last_code_block(response: str, code: str | None) -> None:
    assert last_code_block(final_part(response)) == code


def test_language_penalty_is_off_and_counts_letters_of_other_scripts() -> None:
    mixed = "abcdef\u4f60\u597d"
    assert minority_share(mixed) == pytest.approx(2 / 8)
    assert minority_share("\\boxed{\u4f60}$abc$ ```x = 1```") == 0.0
    assert minority_share("12 + 3") == 0.0
    problem = MathProblem(answer="abc")
    assert rewarded(FakeJudge(), problem, mixed).value == 1.0
    found = rewarded(FakeJudge(), problem, mixed, language_penalty=0.4)
    assert (found.value, found.accuracy, found.language_penalty) == (pytest.approx(0.9), 1.0, pytest.approx(0.1))
    with pytest.raises(ConfigError, match="language_penalty"):
        RewardRouter(FakeMath(), FakeJudge(), language_penalty=-1)


def test_all_or_nothing_pays_for_every_test_alone() -> None:
    problem = CodeProblem(tests=TESTS, levels=[0, 0, 1], scores=(1, 2))
    assert rewarded(FakeJudge(PASS, PASS, FAIL), problem, CODE).value == 1.0
    assert rewarded(FakeJudge(PASS, PASS, FAIL), problem, CODE, scheme="all_or_nothing").value == 0.0
    assert rewarded(FakeJudge(PASS, PASS, PASS), problem, CODE, scheme="all_or_nothing").value == 3.0
