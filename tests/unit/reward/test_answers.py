"""Answers to mathematics problems: what is right in any writing, what is wrong however near it looks."""

import contextlib
import json
import time
from pathlib import Path

import pytest

pytest.importorskip("math_verify")

from megatron_mimo.reward.answers.compare import Comparison, compare

RIGHT = {
    "repeating decimals": [
        (r"0.\overline{3}", r"\frac13"),
        (r"\frac{1}{7}", r"0.\overline{142857}"),
        (r"\frac16", r"0.1\overline{6}"),
    ],
    "long numbers": [
        ("2^{100}", "1267650600228229401496703205376"),
        ("10^{20}+1", "100000000000000000001"),
        ("2500000", r"2\,500\,000"),
    ],
    "scientific": [(r"1.5 \times 10^{-3}", "0.0015"), (r"3 \times 10^8", "3e8")],
    "units": [
        (r"100\text{ cm}", r"1\text{ m}"),
        (r"4 \text{ hours}", r"240 \text{ minutes}"),
        (r"72 \text{ km/h}", r"20\text{ m/s}"),
        ("16", r"16 \text{ square units}"),
        (r"25\pi", r"25 \pi \text{ cm}^2"),
        (r"\$0.50", "50 cents"),
        ("17", "17 平方米"),
    ],
    "degrees and percent": [
        (r"60^\circ", "60度"),
        (r"\frac{\pi}{6}", r"30^\circ"),
        (r"50\%", r"\frac12"),
        ("0.07", r"7\%"),
        (r"\cos 60^\circ", r"\frac12"),
    ],
    "bases": [("1011_2", "1011_{2}"), ("11_{16}", "11 (base 16)"), ("120_3", r"120_{\text{three}}")],
    "lists": [
        (r"x=1 \text{ or } x=2", "2, 1"),
        ("3,4,5", "3, 4, and 5"),
        (r"\pm 3", "3, -3"),
        ("x=3, y=4", "y=4, x=3"),
        ("-1; 7", "7；-1"),
    ],
    "intervals": [
        (r"(-\infty, 3]", r"x \le 3"),
        ("(0,1)", "0<x<1"),
        (r"x>2 \text{ or } x<-2", r"(-\infty,-2)\cup(2,\infty)"),
        (r"\{x | x > 3\}", "x>3"),
    ],
    "formulas": [
        ("x^2-1", "(x-1)(x+1)"),
        (r"\sin^2 x", r"1-\cos^2 x"),
        (r"\ln 4", r"2\ln 2"),
        ("xy", "yx"),
        (r"\frac{\sqrt{3}}{2}", "sqrt(3)/2"),
        ("100!", r"99!\cdot 100"),
    ],
    "equations": [("y=3x-2", "3x-y-2=0"), ("f(x)=2x+1", "2x+1"), ("12", r"12 = 3 \cdot 4"), ("5", "x+y=5")],
    "words": [
        (r"\text{no solution}", r"\emptyset"),
        ("Tuesday", r"\text{tuesday}"),
        ("7", "seven"),
        (r"\text{(D)}", "D"),
        ("乙", r"\text{乙}"),
    ],
    "numbers": [(r"3\frac{1}{4}", "3.25"), ("½", r"\frac{1}{2}"), ("-5", "−5"), ("2", "２"), ("42", "42.")],
}
WRONG = {
    "tiny and huge numbers": [
        (r"\frac{1}{3^{70}}", r"\frac{1}{3^{71}}"),
        (r"\frac{1}{90!}", r"\frac{1}{92!}"),
        ("2^{100}", "1267650600228229401496703205377"),
        (r"\frac{2^{305}+1}{3\cdot 2^{306}}", r"\frac{1}{6}"),
        ("10^{20}+1", "10^{20}"),
    ],
    "rounded": [(r"\frac{2}{3}", "0.666667"), (r"2\sqrt{2}", "2.828"), ("3.14", r"\pi")],
    "units": [
        (r"25\text{ cm}", r"25\text{ m}"),
        ("25 cm", "25 m"),
        (r"3 \text{ cm}^2", r"3 \text{ cm}"),
        (r"\$5", "€5"),
        (r"5 \text{ apples}", r"5 \text{ pears}"),
    ],
    "bases": [("1011_2", "1011_3"), ("77_8", "778"), ("77_8", "77")],
    "order": [
        ("PQRS", "QPSR"),
        ("(7,9)", "(9,7)"),
        ("(1,2)", r"\{1,2\}"),
        (r"\frac{x}{y}", r"\frac{y}{x}"),
        ("1:2", "2:1"),
    ],
    "hedges": [
        ("8", "7 or 8"),
        ("8", r"\pm 8"),
        ("8", "8=9"),
        ("8", r"8 \approx 9"),
        ("8", r"\text{8 (or perhaps } 9)"),
        (r"1 \text{ or } 2", "1"),
        ("1, 2", "1, 2, 3"),
    ],
    "intervals": [("[0,1)", "[0,1]"), ("(1,2)", "[1,2]"), ("k<3", r"k \leq 3"), ("x>3", "x<3")],
    "others": [
        (r"\sqrt{x^2}", "x"),
        ("6:00", "7:00"),
        (r"\text{Yes}", "No"),
        (r"\text{no solution}", "0"),
        ("2x", "2y"),
        ("1", r"\frac{}{}"),
        ("7", "9^{9^{9^9}}"),
    ],
}


@pytest.mark.parametrize("kind", RIGHT)
def test_right_in_any_writing(kind: str) -> None:
    assert [pair for pair in RIGHT[kind] if compare(pair[1], pair[0]) is not Comparison.RIGHT] == []


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_however_near(kind: str) -> None:
    outcomes = {pair: compare(pair[1], pair[0]) for pair in WRONG[kind]}
    decided = (Comparison.WRONG, Comparison.UNREADABLE_ANSWER)
    assert {pair: outcome for pair, outcome in outcomes.items() if outcome not in decided} == {}


NEIGHBOURS = [json.loads(line) for line in Path(__file__).with_name("neighbours.jsonl").read_text().splitlines()]
"""Pairs written by hand, each next to one that looks the same and is worth something else."""


@pytest.mark.parametrize("right", [True, False])
def test_answers_and_their_neighbours(right: bool) -> None:
    chosen = [pair for pair in NEIGHBOURS if pair["right"] == right]
    assert len(chosen) > 150
    assert [pair for pair in chosen if (compare(pair["answer"], pair["gold"]) is Comparison.RIGHT) != right] == []


def test_what_cannot_be_decided_is_no_wrong_answer() -> None:
    assert compare("9^{9^{9^{8}}}+x", "9^{9^{9^{9}}}+x") is Comparison.UNDECIDED
    assert compare("5", r"\frac{1}{") is Comparison.UNREADABLE_GOLD


HOSTILE = [
    "5 " + "ab " * 1000 + "!",
    "5 " + "a" * 3900 + "!",
    "0." + "1" * 3900,
    "0." + "12" * 90 + "\\ldots",
    "(" * 2000 + ")" * 1900,
    "\\{" * 1000,
    "1," * 1900,
    "{" * 3900,
    "\\text{" * 600,
    "-" * 3900 + "1",
    "x=" * 1900,
    "\\pm " * 900,
    "\\sqrt(" * 500,
    "9" * 3900,
    "1/" * 1900 + "2",
    "^" * 3900,
    "1:" * 1900,
    "\\frac{1}{2004!}",
]


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_no_answer_takes_long(answer: str) -> None:
    """Whatever a model writes within the length that is compared, the verifier's time is not spent on it."""
    start = time.process_time()
    with contextlib.suppress(RecursionError):
        assert compare(answer, "5") is not Comparison.RIGHT
        compare(answer, r"\frac{x}{2} + 1")
    assert time.process_time() - start < 4
