"""Letters as models box them."""

import pytest

from megatron_mimo.eval.letters import boxed_letters

OPTIONS = ["opt0", "opt1", "vitamin B", "a cat"]


@pytest.mark.parametrize(
    "boxed",
    [
        "{A}", "{a}", "{(A)}", "{(a)}", "{A opt0}", "{A. opt0}", "{A) opt0}", "{A: opt0}", "{A、opt0}", "{Option A}",
        "{option a}", "{Choice (A)}", "{选A}", "{选项A}", "{答案:A}", "{答案：Ａ}", "{故选A}", "{A项}",
        "{Ａ}", "{（Ａ）}", " {A}",
        "{{A}}", r"{\(A\)}", "{$A$}", "{**A**}", "{[A]}", r"{\text{Answer: A}}", r"{\textit{A}}", r"{\textbf{A}}",
        r"{\mathrm{A}}", r"{\mathbf A}", r"{\text{(A)}}", r"{\rm A}", "{A.}", "{A. something else}",
        "{The answer is A}",
        "{Answer is (A).}", "{Option A is correct}", r"{\textbf{(A) }opt0}",
        "{A\n}", "{`A`}", " A", "(A)", r"{\boxed{A}}",
        r"{\text{A. opt0}}", r"{\ A\ }", "{\\displaystyle A}", "{*A*}", '{"A"}',
    ],
)  # fmt: skip
def test_one_letter(boxed: str) -> None:
    letters, shown = boxed_letters(f"So \\boxed{boxed}.", OPTIONS)
    assert letters == "A" and shown is not None


@pytest.mark.parametrize(
    ("boxed", "letters"),
    [
        ("{A: 5, B: 6}", "AB"), ("{A: opt0, B: opt1}", "AB"), ("{A. opt0 or B. opt1}", "AB"),
        (r"{\text{(A) opt0 and (D) a cat}}", "AD"), ("{A. or B.}", "AB"), ("{A or B}", "AB"),
        ("{A, B}", "AB"), ("{A, C and D}", "ACD"),
        ("{ACD}", "ACD"), ("{A、C}", "AC"), ("{A B D}", "ABD"), (r"{\text{A and C}}", "AC"), ("{A/B}", "AB"),
        ("{C. vitamin B}", "C"), ("{D a cat}", "D"), ("{A. opt1}", None), ("{Paris}", None), ("{}", None),
        ("{42}", None), ("{E}", None), ("{x}", None),
        ("{a cat}", None), ("{None of them}", None), ("{opt1}", None), ("{A and then some}", None),
    ],
)  # fmt: skip
def test_several_and_none(boxed: str, letters: str | None) -> None:
    assert boxed_letters(f"\\boxed{boxed}", OPTIONS)[0] == letters


def test_no_box() -> None:
    assert boxed_letters("The answer is A.", OPTIONS) == (None, None)
