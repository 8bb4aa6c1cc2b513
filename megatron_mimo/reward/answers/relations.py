"""Equations, inequalities and chains of equalities within an answer."""

import re

from megatron_mimo.reward.answers.exact_numbers import decimals
from megatron_mimo.reward.answers.expressions import Unreadable, formula, same_equation
from megatron_mimo.reward.answers.reading import COMPARISON, FLIPPED, Leaf, constant, split_top
from megatron_mimo.reward.answers.same_quantity import GoldUnreadable, rounds_to, same_quantity


def relation(text: str) -> bool:
    return bool(COMPARISON.search(text) or r"\ne" in text)


def sides(text: str) -> list[str]:
    """Of a chain of `=` and `\\approx`."""
    return [part.strip() for part in split_top(text, re.compile(r"(?<![<>!])=|\\approx(?![a-zA-Z])")) if part.strip()]


def same_chain(gold: str, answer: Leaf) -> bool:
    """`2 \\cdot 21 = 42`: every side must have the value of the first, and one must be the expected answer.

    Sides with letters name a number that is asked for, as in `x + y = 5`.
    """
    parts = sides(answer.text)
    if constant(gold):
        parts = [part for part in parts if constant(part)] or parts
    if any(not agrees(parts[0], part, "approx" in answer.text) for part in parts[1:]):
        return False
    return any(same_quantity(gold, part) for part in parts)


def agrees(first: str, second: str, rounded: bool) -> bool:
    if same_quantity(first, second):
        return True
    places = decimals(second)
    return rounded and places is not None and rounds_to(first, second, places)


def same_relation(gold: str, answer: str) -> bool:
    """Equations up to a factor, inequalities up to a positive one."""
    expected, found = chain(gold), chain(answer)
    if expected or found:
        return bool(expected and found) and same_comparisons(expected or [], found or [])
    one, other = split_relation(gold), split_relation(answer)
    if one is None or other is None or one[1] != other[1]:
        return False
    pair = []
    for (left, _, right), error in ((one, GoldUnreadable), (other, Unreadable)):
        try:
            pair.append((formula(left), formula(right)))
        except Unreadable as fault:
            raise error(str(fault)) from fault
    return same_equation(*pair, keeps_sign=one[1] in ("<", r"\le"))


def chain(text: str) -> list[str] | None:
    """`a < b < c` as a list of parts and signs, smallest first; None for a single relation."""
    parts = [part.strip() for part in COMPARISON.split(text)]
    signs = parts[1::2]
    if len(signs) < 2 or not all(parts):
        return None
    return [FLIPPED.get(part, part) for part in reversed(parts)] if signs[0] in (">", r"\ge") else parts


def same_comparisons(gold: list[str], answer: list[str]) -> bool:
    """The same signs between the same quantities."""
    return gold[1::2] == answer[1::2] and all(same_quantity(*pair) for pair in zip(gold[::2], answer[::2], strict=True))


def split_relation(text: str) -> tuple[str, str, str] | None:
    """(left, sign, right) with the sign one of `=`, `<`, `\\le`, `\\ne`; None for anything longer."""
    parts = re.split(r"(\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<|>|=)", text)
    if len(parts) != 3 or not parts[0].strip() or not parts[2].strip():
        return None
    left, sign, right = parts
    return (right, FLIPPED[sign], left) if sign in (">", r"\ge") else (left, sign, right)
