"""The boxed answer of a response: RL, evaluation and the readers of problems take it from here."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from megatron_mimo.reward.final_answer import final_part

BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
BARE = re.compile(r"[-+]?[\w./]*\w")
"""What `\\boxed 5` without braces holds."""
BETWEEN_BOXES = re.compile(r"[\s$,;&、，；]*(?:(?:\\text\{)?\s*(?:and|or|和|或|与)\s*\}?)?[\s$,;&、，；]*")


class Box(NamedTuple):
    """A box of a text: its place, its end and what it holds (None: it never ends)."""

    start: int
    end: int
    content: str | None


def boxes(text: str) -> Iterator[Box]:
    """Boxes in the order of their starts, those inside of another left out."""
    place = 0
    while match := BOX.search(text, place):
        place = match.end()
        if text[place : place + 1] == "{":
            end = closing_brace(text, place)
            yield Box(
                match.start(), len(text) if end is None else end + 1, None if end is None else text[place + 1 : end]
            )
            place = len(text) if end is None else end + 1
        elif bare := BARE.match(text, place):
            yield Box(match.start(), bare.end(), bare.group())
            place = bare.end()


def boxed_answer(response: str) -> str | None:
    """What the last box after the reasoning holds; boxes joined by `and`, `or` or a comma are one answer, a list.

    None without a box, and where the last one never ends: the response was cut off inside of its answer.
    """
    text = final_part(response)
    found = list(boxes(text))
    if not found or found[-1].content is None:
        return None
    first = len(found) - 1
    while first and BETWEEN_BOXES.fullmatch(text[found[first - 1].end : found[first].start]):
        first -= 1
    return ", ".join(box.content or "" for box in found[first:])


def last_boxed(response: str) -> str | None:
    """`boxed_answer` as it would stand in LaTeX."""
    answer = boxed_answer(response)
    return None if answer is None else f"\\boxed{{{answer}}}"


def closing_brace(text: str, opening: int) -> int | None:
    """Place of the brace that closes the one at `opening`; escaped braces count as text."""
    depth, place = 0, opening
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return None
