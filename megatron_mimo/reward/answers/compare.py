"""Whether an answer is right: structure against structure, with Math-Verify's parser for the formulas at the leaves.

| guard | refused | accepted |
|---|---|---|
| exact numbers | 1/2^99 for 1/2^98; 0.333333 for 1/3 | 0.\\overline{3}, 1\\,000\\,000, 6.02e23 |
| units | 10 m for 10 cm | 1 m for 100 cm, 5 厘米 for 5 |
| bases | 52_9 or 52 for 52_8 | 52_{\\text{eight}} |
| order | (4,2) for (2,4); BADC for ABCD | 3, 1, 2 for 1, 2, 3 |
| lists | one of two solutions, one too many, \\pm 3 for 3 | x = 1 or x = -2 for -2, 1 |
| equalities | 42 = 41, 42 \\approx 41 | x = 5, 2 \\cdot 21 = 42 |
"""

import re
from enum import StrEnum

from megatron_mimo.reward.answers.clock import colon_parts, is_clock, same_time, time_of_day
from megatron_mimo.reward.answers.exact_numbers import decimals, in_base, rational
from megatron_mimo.reward.answers.expressions import (
    TooLarge,
    Unreadable,
    formula,
    prepared,
    same_equation,
    same_formula,
)
from megatron_mimo.reward.answers.numerals import in_digits
from megatron_mimo.reward.answers.quantity import CJK, split_unit, strip_lead
from megatron_mimo.reward.answers.reading import (
    COMPARISON,
    FLIPPED,
    Leaf,
    Many,
    Matrix,
    Node,
    Union,
    constant,
    readings,
    split_top,
    with_decimal_comma,
)
from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN, clean, words_of
from megatron_mimo.reward.answers.units import Unit


class Comparison(StrEnum):
    """Outcome of one comparison."""

    RIGHT = "right"
    WRONG = "wrong"
    UNREADABLE_ANSWER = "unreadable_answer"
    """No formula at all: wrong."""
    UNREADABLE_GOLD = "unreadable_gold"
    """A fault of the problem: never scored."""
    UNDECIDED = "undecided"
    """Both have numbers that cannot be written down: never scored."""


class GoldUnreadable(Exception):
    """The expected answer is no formula."""


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


def compare(answer: str, gold: str) -> Comparison:
    """What `answer` is worth, both LaTeX or plain text. May take long: for worker processes."""
    texts = clean(gold), clean(answer)
    if same_text(*texts) or same_choice(*texts):
        return Comparison.RIGHT
    if not texts[1]:
        return Comparison.UNREADABLE_ANSWER
    outcome = Comparison.WRONG
    for expected in readings_of_gold(texts[0]):
        for found in readings_of_answer(texts[1], expected):
            try:
                if same(expected, found):
                    return Comparison.RIGHT
            except GoldUnreadable:
                outcome = Comparison.UNREADABLE_GOLD
            except Unreadable:
                outcome = Comparison.UNREADABLE_ANSWER if outcome is Comparison.WRONG else outcome
            except TooLarge:
                outcome = Comparison.UNDECIDED if too_large(texts[0]) else Comparison.WRONG
    return outcome


def readings_of_gold(text: str) -> list[Node]:
    """`0,5` is one number; `1,5` is two."""
    decimal = with_decimal_comma(text) if re.match(r"[-+]?0,\d", text) else None
    return [*([decimal] if decimal else []), *readings(text)]


def readings_of_answer(text: str, gold: Node) -> list[Node]:
    """A comma may be a decimal point where one decimal number is expected."""
    one_decimal = isinstance(gold, Leaf) and (decimals(gold.text) is not None or r"\frac" in gold.text)
    decimal = with_decimal_comma(text) if one_decimal else None
    return [*readings(text), *([decimal] if decimal else [])]


def same_text(gold: str, answer: str) -> bool:
    """Equal up to spaces; one between digits parts two numbers: 2 1/2 is not 21/2."""
    return SPACES.sub("", gold) == SPACES.sub("", answer) != ""


def too_large(text: str) -> bool:
    """Whether the expected answer itself cannot be evaluated."""
    try:
        prepared(formula(text))
    except TooLarge:
        return True
    except Exception:
        return False
    return False


def same(gold: Node, answer: Node) -> bool:
    """Equal structures with equal parts. Raises GoldUnreadable, Unreadable, TooLarge."""
    if isinstance(answer, Many) and len(answer.items) == 1 and not isinstance(gold, Many):
        answer = answer.items[0]
    if isinstance(gold, Many) and len(gold.items) == 1 and not isinstance(answer, Many):
        gold = gold.items[0]
    if gold.name and answer.name and not same_name(gold.name, answer.name):
        return False
    match gold, answer:
        case Many(), Many():
            return same_many(gold, answer)
        case (Union(), _) | (_, Union()):
            return matched(flat_union(gold), flat_union(answer))
        case Matrix(), Matrix():
            return [len(row) for row in gold.rows] == [len(row) for row in answer.rows] and all(
                same(*pair) for rows in zip(gold.rows, answer.rows, strict=True) for pair in zip(*rows, strict=True)
            )
        case Matrix(), Many():
            return same_vector(gold, answer)
        case Many(), Matrix():
            return same_vector(answer, gold)
        case Leaf(), Leaf():
            return same_leaf(gold, answer)
    return False


def same_vector(vector: Matrix, point: Many) -> bool:
    """A matrix of one row or column against `(1, 2)`."""
    if point.brackets != "()" or not vector.rows or min(len(vector.rows), len(vector.rows[0])) != 1:
        return False
    entries = [entry for row in vector.rows for entry in row]
    return len(entries) == len(point.items) and all(same(*pair) for pair in zip(entries, point.items, strict=True))


def same_name(gold: str, answer: str) -> bool:
    """Whether two names on the left of `=` may mean the same: x and y may not, y and f(x) may, words may."""
    one, other = (re.sub(r"\s", "", name) for name in (gold, answer))
    if one == other or len(one) > 3 or len(other) > 3:
        return True
    return "(" in one or "(" in other


def same_many(gold: Many, answer: Many) -> bool:
    if not gold.brackets and not answer.brackets and len(names_of(gold) | names_of(answer)) > 1:
        return same_named(gold, answer)
    if gold.brackets in ("", "{}") and answer.brackets in ("", "{}"):
        sets = gold.brackets == "{}" and answer.brackets == "{}"
        return matched(distinct(gold.items) if sets else gold.items, distinct(answer.items) if sets else answer.items)
    if gold.brackets != answer.brackets and "" not in (gold.brackets, answer.brackets):
        return False
    if "{}" in (gold.brackets, answer.brackets) or len(gold.items) != len(answer.items):
        return False
    return all(same(*pair) for pair in zip(gold.items, answer.items, strict=True))


def names_of(list_: Many) -> set[str]:
    return {item.name for item in list_.items if item.name}


def same_named(gold: Many, answer: Many) -> bool:
    """Lists of several names, as `a = 2, b = 3`: in any order where both have names, in the same one where one has."""
    if all(item.name for item in (*gold.items, *answer.items)):
        return matched(gold.items, answer.items)
    return len(gold.items) == len(answer.items) and all(
        same(*pair) for pair in zip(gold.items, answer.items, strict=True)
    )


def flat_union(node: Node) -> tuple[Node, ...]:
    """Parts in any order; finite sets are joined, and `x < -2 or x > 2` is a list of intervals."""
    items = node.items if isinstance(node, Union) or (isinstance(node, Many) and not node.brackets) else (node,)
    finite = [item for item in items if isinstance(item, Many) and item.brackets == "{}"]
    rest = tuple(item for item in items if item not in finite)
    joined = tuple(part for item in finite for part in item.items)
    return (*rest, Many("{}", distinct(joined))) if joined else rest


def distinct(items: tuple[Node, ...]) -> tuple[Node, ...]:
    kept: list[Node] = []
    for item in items:
        if not any(same(one, item) for one in kept):
            kept.append(item)
    return tuple(kept)


def matched(gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
    """As many parts, each equal to another one."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for expected in gold:
        found = next((one for one in left if same(expected, one)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def same_leaf(gold: Leaf, answer: Leaf) -> bool:
    if same_text(gold.text, answer.text):
        return True
    if relation(gold.text) or relation(answer.text):
        return same_relation(whole(gold), whole(answer))
    chains = sides(gold.text), sides(answer.text)
    if len(chains[0]) > 1 and not gold.name:
        # The expected answer is an equation.
        return same_relation(whole(gold), whole(answer))
    if len(chains[1]) > 1:
        if gold.name and gold.name in answer.text:
            return same_relation(whole(gold), whole(answer))
        return same_chain(chains[0][-1], answer)
    return same_quantity(gold.text, answer.text)


def whole(leaf: Leaf) -> str:
    return f"{leaf.name} = {leaf.text}" if leaf.name else leaf.text


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


def rounds_to(exact: str, rounded: str, places: int) -> bool:
    """Whether a formula's value rounds to a decimal."""
    try:
        value = formula(exact)
        return abs(value.evalf(places + 20) - formula(rounded)) <= 0.5 * 10**-places
    except Exception:
        return False


def relation(text: str) -> bool:
    return bool(COMPARISON.search(text) or r"\ne" in text)


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


def same_choice(gold: str, answer: str) -> bool:
    """A letter against `(B) 12` or `B: 12`, where no other letter follows."""
    letter = re.fullmatch(r"\(?\s*([A-J])\s*\)?", words_of(gold))
    words = words_of(answer)
    found = re.match(r"(?:\(([A-J])\)|([A-J])[:.)])\s*(?=\S)", words)
    if not letter or not found or re.search(r"\b[A-J]\b|\b(?:or|and)\b", words[found.end() :]):
        return False
    return letter[1] == (found[1] or found[2])


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
    if any(r"\ldots" in part for part in one + other):
        return False
    return all(
        same_body(rf"({one[0]}) \cdot ({part})", rf"({other[0]}) \cdot ({mine})")
        for mine, part in zip(one[1:], other[1:], strict=True)
    )
