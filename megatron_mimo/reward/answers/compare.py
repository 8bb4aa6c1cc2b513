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

from megatron_mimo.reward.answers.exact_numbers import decimals
from megatron_mimo.reward.answers.expressions import TooLarge, Unreadable, formula, prepared
from megatron_mimo.reward.answers.reading import Leaf, Many, Matrix, Node, Union, readings, with_decimal_comma
from megatron_mimo.reward.answers.relations import relation, same_chain, same_relation, sides
from megatron_mimo.reward.answers.same_quantity import GoldUnreadable, same_quantity, same_text
from megatron_mimo.reward.answers.text import clean, words_of


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


def same_choice(gold: str, answer: str) -> bool:
    """A letter against `(B) 12` or `B: 12`, where no other letter follows."""
    letter = re.fullmatch(r"\(?\s*([A-J])\s*\)?", words_of(gold))
    words = words_of(answer)
    found = re.match(r"(?:\(([A-J])\)|([A-J])[:.)])\s*(?=\S)", words)
    if not letter or not found or re.search(r"\b[A-J]\b|\b(?:or|and)\b", words[found.end() :]):
        return False
    return letter[1] == (found[1] or found[2])
