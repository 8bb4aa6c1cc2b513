"""The boxed answer of a response."""

import pytest

from megatron_mimo.reward.boxed import boxed_answer, last_boxed


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"first \boxed{1}, no: \boxed{2}", "2"),
        (r"the roots are \boxed{1} and $\boxed{2}$", "1, 2"),
        (r"so \boxed{1} or \boxed{2}", "1, 2"),
        (r"\boxed{\frac{1}{2}} done", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{3}", "3"),
        (r"\boxed {3}", "3"),
        (r"\boxed 3.", "3"),
        (r"\boxed{1} and then \boxed{2", None),
        (r"<think>I guess \boxed{5}, but", None),
        (r"<think>\boxed{5}? no</think> It is 7.", None),
        (r"<think>\boxed{5}?</think> It is \boxed{7}.", "7"),
        (r"\boxedanswer{3}", None),
        ("42", None),
        ("", None),
    ],
)
def test_boxed_answer(response: str, answer: str | None) -> None:
    assert boxed_answer(response) == answer
    assert last_boxed(response) == (None if answer is None else f"\\boxed{{{answer}}}")
