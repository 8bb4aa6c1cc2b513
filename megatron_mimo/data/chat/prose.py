"""What of a text is prose: fenced code as CommonMark defines it, code spans, formulas and addresses told apart."""

import re
from dataclasses import dataclass

FENCE = re.compile(r"[\s>]*(?:[-*+]\s+|\d+[.)]\s+)*(`{3,}|~{3,})(.*)")
"""At the beginning of a line, also inside quotations and lists."""
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$|\\\(.+?\\\)|\\\[.+?\\\]|\\[a-zA-Z]+", re.DOTALL)
ADDRESS = re.compile(r"\w+://\S+")


@dataclass(frozen=True)
class Fences:
    """A text without its fenced code."""

    outside: str
    unclosed: str | None
    """The line that opens a fence which nothing closes."""


def split_fences(text: str) -> Fences:
    """A fence is closed by as many of its own marks, or more, alone on a line: four take three into the code."""
    outside: list[str] = []
    opening, marks = None, ""
    for line in text.splitlines():
        match = FENCE.match(line)
        if opening is not None:
            if match and not match[2].strip() and match[1].startswith(marks):
                opening = None
        elif match and not (match[1][0] == "`" and "`" in match[2]):  # or it is a code span
            opening, marks = line.strip(), match[1]
        else:
            outside.append(line)
    return Fences("\n".join(outside), opening)


def without_code(text: str) -> str:
    """The text without fenced code and code spans."""
    return CODE_SPAN.sub(" ", split_fences(text).outside)


def prose(text: str) -> str:
    """The words that are in a language: no code, formulas, LaTeX commands and addresses."""
    return ADDRESS.sub(" ", FORMULA.sub(" ", without_code(text)))
