"""Whether two leaves of an answer mean the same: numbers with units, formulas, times and ratios, words."""

import re

from megatron_mimo.reward.answers.clock import colon_parts, is_clock, same_time, time_of_day
from megatron_mimo.reward.answers.exact_numbers import decimals, in_base, rational
from megatron_mimo.reward.answers.expressions import Unreadable, formula, same_formula
from megatron_mimo.reward.answers.numerals import in_digits
from megatron_mimo.reward.answers.quantity import CJK, split_unit, strip_lead
from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN, words_of
from megatron_mimo.reward.answers.units import Unit

NONE_WORDS = frozenset(
    (
        "\\emptyset",
        "emptyset",
        "no solution",
        "no solutions",
        "no real solution",
        "no real solutions",
        "无解",
        "空集",
        "{}",
        "{ }",
    )
)
SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
PERCENT, ANGLE, RADIAN = (("percent", 1),), (("angle", 1),), (("radian", 1),)


class GoldUnreadable(Exception):
    """The expected answer is no formula."""


def same_text(gold: str, answer: str) -> bool:
    """Equal up to spaces; one between digits parts two numbers: 2 1/2 is not 21/2."""
    return SPACES.sub("", gold) == SPACES.sub("", answer) != ""


def same_quantity(gold: str, answer: str) -> bool:
    """Numbers with units, words, or formulas."""
    gold, answer = (in_digits(degrees_in_functions(strip_lead(text))) for text in (gold, answer))
    if is_words(gold) or (is_words(answer) and not has_unit(answer)):
        return same_words(gold, answer)
    if is_clock(gold) or is_clock(answer):
        return same_ratio(gold, answer)
    bases = in_base(gold), in_base(answer)
    if any(bases):
        return bases[0] == bases[1]
    (body, unit), (other, other_unit) = split_unit(gold), split_unit(answer)
    if unit is None or other_unit is None:
        return same_without_unit(body, unit, other, other_unit)
    if unit.words or other_unit.words:
        return unit.words == other_unit.words and same_body(body, other)
    if {unit.dimensions, other_unit.dimensions} == {ANGLE, RADIAN}:
        return same_angle(body, unit, other)
    if unit.dimensions != other_unit.dimensions:
        return False
    factor = other_unit.factor / unit.factor
    return same_body(
        body, other if factor == 1 else rf"({other}) \cdot \frac{{{factor.numerator}}}{{{factor.denominator}}}"
    )


def same_without_unit(body: str, unit: Unit | None, other: str, other_unit: Unit | None) -> bool:
    """One side names no unit: it counts in the other's; a share may stand for a percentage."""
    if same_body(body, other):
        return True
    one = unit or other_unit
    if one is None:
        return False
    if one.dimensions == PERCENT:
        share = rf"\frac{{{body if unit else other}}}{{100}}"
        return same_body(share, other) if unit else same_body(body, share)
    return one.dimensions == ANGLE and same_angle(body, unit, other)


def same_angle(body: str, unit: Unit | None, other: str) -> bool:
    """Degrees against radians, which a formula with pi is."""
    radians = other if unit is not None and unit.dimensions == ANGLE else body
    degrees = body if radians is other else other
    return r"\pi" in radians and same_body(degrees, rf"\frac{{180 ({radians})}}{{\pi}}")


def same_body(gold: str, answer: str) -> bool:
    """Two formulas without units."""
    exact = rational(gold), rational(answer)
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1] or same_rounded(gold, answer)
    if (r"\ldots" in gold) != (r"\ldots" in answer):
        return False
    if is_points(gold):
        return same_points(gold, answer)
    try:
        expected = formula(gold)
    except Unreadable as fault:
        raise GoldUnreadable(str(fault)) from fault
    return same_formula(expected, formula(answer)) or same_rounded(gold, answer)


def same_rounded(gold: str, answer: str) -> bool:
    """An exact answer for an expected one that was rounded to six places or more."""
    places = decimals(gold)
    return places is not None and places >= 6 and decimals(answer) is None and rounds_to(answer, gold, places)


def rounds_to(exact: str, rounded: str, places: int) -> bool:
    """Whether a formula's value rounds to a decimal."""
    try:
        value = formula(exact)
        return abs(value.evalf(places + 20) - formula(rounded)) <= 0.5 * 10**-places
    except Exception:
        return False


def same_points(gold: str, answer: str) -> bool:
    """The same letters in the same order; an angle has its vertex in the middle, from whichever side."""
    one, other = (re.sub(r"\\[a-z]+|[{}\s]", "", text) for text in (gold, answer))
    return one == other or (r"\angle" in gold and len(one) == 3 and other == one[::-1])


def is_points(text: str) -> bool:
    """`ABCD`, names of points in order: no product."""
    return bool(re.fullmatch(r"(?:\\(?:triangle|angle|overline\{)?\s*)?[A-Z]{2,}\}?'*", text.strip()))


def degrees_in_functions(text: str) -> str:
    """`\\cos 60^\\circ` in radians."""
    if not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        return text
    return re.sub(r"(\d+(?:\.\d+)?|[a-zA-Z])\s*\^\\circ", r"{(\1 \\cdot \\frac{\\pi}{180})}", text)


def has_unit(text: str) -> bool:
    """Also a number with a multiplier, 2万."""
    body, unit = split_unit(text)
    return unit is not None or rational(body) is not None


def is_words(text: str) -> bool:
    """No formula: words in `\\text{}`, letters that form a word, Chinese text; a number with a unit is none."""
    if r"\emptyset" in text:
        return True
    if has_unit(text) or in_base(text):
        return False
    if TEXT_OPEN in text and re.sub(rf"{TEXT_OPEN}[^{TEXT_CLOSE}]*{TEXT_CLOSE}", "", text).strip(" ()[]{},.;:") == "":
        return True
    if TEXT_OPEN in text or re.search(f"[{CJK}]", text):
        return True
    bare = text.strip(" .()")
    if re.search(r"[\\_^=<>+*/|\d]", bare):
        return False
    return bool(re.search(r"[A-Z][a-z]|[a-z]{4,}|[a-z]{2,}\s+[a-z]{2,}|^[a-z]{3}$", bare)) or bare.casefold() in (
        "yes",
        "no",
    )


def same_words(gold: str, answer: str) -> bool:
    """Equal up to case, punctuation and spaces; a letter in parentheses is the letter."""
    one, other = (plain(words_of(text)) for text in (gold, answer))
    return one == other != "" or (one in NONE_WORDS and other in NONE_WORDS)


def plain(words: str) -> str:
    words = re.sub(r"[\"'`.,;:!?。]", "", words.casefold())
    found = re.fullmatch(r"\(?\s*([a-z])\s*\)?", words.strip())
    if (digits := in_digits(words.strip())) != words.strip():
        return digits
    return found[1] if found else re.sub(r"\s+", " ", words).strip(" ()")


def same_ratio(gold: str, answer: str) -> bool:
    """Times of day digit by digit; ratios of two or more numbers up to a factor."""
    expected, found = time_of_day(gold), time_of_day(answer)
    if expected and found and (expected[2] or found[2]):
        return same_time(expected, found)
    one, other = colon_parts(gold), colon_parts(answer)
    if any(re.fullmatch(r"\d\d.*", parts[-1]) and len(parts) > 1 for parts in (one, other)):
        # A minute of one digit is none: 12:05 is not 12:5.
        if len(one) != len(other) or (one[-1][0] == "0") != (other[-1][0] == "0"):
            return False
        return all(same_quantity(*pair) for pair in zip(one, other, strict=True))
    if len(one) != len(other):
        pair = [rf"\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 else parts[0] for parts in (one, other)]
        return {len(one), len(other)} == {1, 2} and same_body(*pair)
    if all(same_text(*pair) or (r"\ldots" not in pair and same_body(*pair)) for pair in zip(one, other, strict=True)):
        return True
    if len(one) == 1 or any(r"\ldots" in part for part in one + other):
        return False
    return all(
        same_body(rf"({one[0]}) \cdot ({part})", rf"({other[0]}) \cdot ({mine})")
        for mine, part in zip(one[1:], other[1:], strict=True)
    )
