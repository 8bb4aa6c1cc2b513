"""Answers out of completions, and the interval against its defining equation."""

import math

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.eval.arithmetic import HeldOutProblem, extract_answer, read_problems, score, wilson_interval


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("7+8=15\n4+3+1=8\nAnswer: \\boxed{85}", "85"),
        ("Answer: \\boxed{ 85 }", "85"),
        ("Answer: \\boxed{85}\nQuestion: 1+1=?\nAnswer: \\boxed{2}", "85"),
        ("Answer: 85", None),
        ("Answer: \\boxed{85", None),
        ("", None),
    ],
)
def test_extracts_the_first_boxed_answer(completion: str, answer: str | None) -> None:
    assert extract_answer(completion) == answer


def test_scores_exact_answers_only() -> None:
    problems = [HeldOutProblem(str(i), "", "85") for i in range(4)]
    accuracy = score(problems, ["\\boxed{85}", "\\boxed{850}", "85", "\\boxed{085}"])
    assert (accuracy.correct, accuracy.total, accuracy.accuracy) == (1, 4, 0.25)
    with pytest.raises(ValueError, match="1 completions for 4 problems"):
        score(problems, ["\\boxed{85}"])


@pytest.mark.parametrize(("successes", "trials"), [(1, 4), (160, 200), (199, 200)])
def test_wilson_limits_are_where_the_score_test_is_just_significant(successes: int, trials: int) -> None:
    for limit in wilson_interval(successes, trials):
        z = (successes / trials - limit) / math.sqrt(limit * (1 - limit) / trials)
        assert abs(z) == pytest.approx(1.959964, abs=1e-5)


def test_wilson_at_the_ends() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((1 - 0.27753, 1.0), abs=1e-5)


def test_problem_file(tmp_path) -> None:
    path = tmp_path / "arithmetic.jsonl"
    with pytest.raises(UserError, match="no held-out problems"):
        read_problems(path)
    path.write_text('{"id": "47+38", "prompt": "Question: 47+38=?\\n", "answer": 85}\n')
    assert read_problems(path) == [HeldOutProblem("47+38", "Question: 47+38=?\n", "85")]
    path.write_text('{"id": "47+38", "prompt": "Question: 47+38=?\\n", "answer": 85}\n{"id": 1}\n')
    with pytest.raises(UserError, match="line 2 is not a problem"):
        read_problems(path)
