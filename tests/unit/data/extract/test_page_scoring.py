"""The scorer of tests/pages: what it takes as equal, and what it must tell apart."""

import pytest

from support.page_scoring import (
    Page,
    contains_lines,
    find_fences,
    find_formulas,
    normalise_prose,
    normalise_scripts,
    normalise_tex,
    score_page,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\left( \dfrac{1}{2} \right)", r"(\frac 1 2)"),
        (r"x^{2}_i", "x_i^2"),
        (r"{\displaystyle E=mc^{2}}", "E = mc^2"),
        (r"\int_0^1 f(x)\,dx", r"\int_{0}^{1} f(x) dx"),
        (r"\operatorname{det} A", r"\det A"),
        (r"f^{\prime}(x)", "f'(x)"),
        (r"\begin{pmatrix} a & b \end{pmatrix}", r"\left(\begin{array}{cc} a & b \end{array}\right)"),
        (r"\begin{align*} a &= b \end{align*}", r"\begin{aligned} a &= b \end{aligned}"),
        (r"a \le b.", r"a\leq b"),
        (r"{\sqrt {\pi }}", r"\sqrt\pi"),
    ],
)
def test_same_formula(one: str, other: str) -> None:
    assert normalise_tex(one) == normalise_tex(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x^2", "x_2"), ("x^{10}", "x^10"), (r"\alpha x", r"\beta x"), ("a+b", "a-b"), (r"\frac{a}{bc}", r"\frac{ab}{c}")],
)
def test_different_formulas(one: str, other: str) -> None:
    assert normalise_tex(one) != normalise_tex(other)


def test_formulas_are_found_between_delimiters() -> None:
    align = r"\begin{align} a &= b \end{align}"
    text = f"Let $x$ and \\(y\\).\n\n$$\nz\n$$\n\\[w\\] {align} It costs \\$5."
    assert {normalise_tex(tex) for tex in find_formulas(text)} == {"x", "y", "z", "w", normalise_tex(align)}


def test_fences() -> None:
    output = "text\n\n```python\ndef f():\n    return 1\n```\n\n- item\n\n  ```\n  a\n    b\n  ```\n"
    assert find_fences(output) == ["def f():\n    return 1\n", "a\n  b\n"]


def test_code_as_text_keeps_relative_indentation() -> None:
    assert contains_lines("x\n  def f():\n      return 1\n", "def f():\n    return 1")
    assert not contains_lines("x\n  def f():\n  return 1\n", "def f():\n    return 1")


def test_prose_without_marks() -> None:
    assert normalise_prose("> A **bold** [link](http://x.org) costs\n> \\$5 & `x_1`") == "A bold link costs $5 & x1"


@pytest.mark.parametrize("text", ["H<sub>2</sub>O", "H₂O", "$\\mathrm{H}_2\\mathrm{O}$", "H_{2}O"])
def test_scripts(text: str) -> None:
    assert normalise_scripts(text) == "H_2O"


def test_score_counts_found_missed_and_leaked() -> None:
    truth = {"formulas": ["x^2", ["a", "b"]], "code": [{"language": "", "text": "f()\n  g()"}]}
    page = Page("p", "u", "k", b"", prose=["One.", "Two."], boilerplate=["Log in", "Menu"], **truth)
    score = score_page(page, "One. Log in $b$\n\n```\nf()\n  g()\n```\n")
    assert dict(score.found) == {"formulas": 1, "code": 1, "prose": 1, "boilerplate": 1}
    assert score.misses == [("formulas", "x^2"), ("prose", "Two."), ("boilerplate", "Log in")]
