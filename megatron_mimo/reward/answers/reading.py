"""A cleaned answer as a structure: lists, tuples, sets, intervals, unions, matrices, and what is left as leaves."""

import itertools
import re
from dataclasses import dataclass, replace

from megatron_mimo.reward.answers.exact_numbers import rational
from megatron_mimo.reward.answers.numerals import english_number
from megatron_mimo.reward.answers.quantity import compound
from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN, words_of

PAIRS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
OPENING = re.compile(r"\\\{|\\langle(?![a-zA-Z])|\\begin\{[a-zA-Z*]+\}|[(\[{]|\\left|" + TEXT_OPEN)
CLOSING = re.compile(r"\\\}|\\rangle(?![a-zA-Z])|\\end\{[a-zA-Z*]+\}|[)\]}]|" + TEXT_CLOSE)
ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-zA-Z*]+\}")
JOIN = re.compile(
    rf"{TEXT_OPEN}[\s,;]*(?:and|or|和|或|或者|与)[\s,;]*{TEXT_CLOSE}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|或者|或|和|与"
    r"|\\(?:lor|vee|land)(?![a-zA-Z])"
)
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
INDIAN_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
OTHER_THOUSANDS = (  # elsewhere a point, an apostrophe or an underscore stands where a comma does
    (re.compile(r"(?<![\d,.])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\d,.])"), r"\1.\2"),
    (re.compile(r"(?<![\d,.])(\d{1,3}(?:\.\d{3}){2,})()(?![\d,.])"), r"\1"),
    (re.compile(r"(?<![\d_])(\d{1,3}(?:_\d{3}){2,})()(?![\d_])"), r"\1"),
    (re.compile(r"(?<![\d'])(\d{1,3}(?:'\d{3})+)()(?![\d'])"), r"\1"),
)
DECIMAL_COMMA = re.compile(r"([-+]?)(0,\d+|\d+,\d{1,2}|\d+,\d{4,})")
SPACED_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d])")
NAME = re.compile(
    rf"((?:\\?[a-zA-Z]+(?:_(?:\{{\w+\}}|\w+))?'*|\|[A-Z]+\||{TEXT_OPEN}[^{TEXT_CLOSE}\d]*{TEXT_CLOSE}|\\angle\s*[A-Z]+|"
    rf"\\(?:vec|hat|overrightarrow)\s*\{{?\w+\}}?|[a-zA-Z]\^\{{-1\}})\s*"
    rf"(?:\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*\))?)\s*(?:=|\\in(?![a-zA-Z])|\\approx(?![a-zA-Z])|:(?=\s))\s*(?!=)"
)
MATRIX = re.compile(
    r"([-+]|[-+]?(?:\d+|\\frac\{-?\d+\}\{\d+\}|\d+/\d+)(?:\s*\\cdot)?)?\s*"
    r"\\begin\{([pbB]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\2\}",
    re.S,
)
"""(a number before it, kind, inside)"""
CASES = re.compile(
    r"\\\{\s*\\begin\{array\}(?:\{[lcr|]*\})?(?P<array>(?:(?!\\begin).)*)\\end\{array\}"
    r"|\\begin\{cases\}(?P<cases>(?:(?!\\begin).)*)\\end\{cases\}",
    re.S,
)
POINT_NAME = re.compile(r"\(\s*[a-zA-Z](?:_\{?\d\}?)?(?:\s*,\s*[a-zA-Z](?:_\{?\d\}?)?)+\s*\)\s*=\s*(?=\()")
SYMBOL = r"(\\?[a-zA-Z]+(?:_\{?\w+\}?)?)"
COMPARISON = re.compile(r"(\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|<|>)")
REALS = (r"\mathbb{R}", r"\mathbb R", r"\R", f"{TEXT_OPEN}all real numbers{TEXT_CLOSE}", "all real numbers")
REALS_WITHOUT = re.compile(
    rf"(?:\\mathbb\s*\{{?R\}}?|\\R|{TEXT_OPEN}?all real numbers{TEXT_CLOSE}?)\s*"
    r"(?:\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])|\\|-)\s*\\\{([^{}]*)\\\}"
)
BUILDER = re.compile(r"\\\{\s*[a-zA-Z](?:\s*\\in[^|:]*)?\s*(?:\||\\mid|:)(.+)\\\}", re.S)
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
LETTER = re.compile(r"(?<!\\)(?<![a-zA-Z])[a-df-hj-zA-Z](?![a-zA-Z])|\\(?:theta|alpha|beta|lambda|mu|phi|omega)")


@dataclass(frozen=True)
class Leaf:
    """No structure of its own."""

    text: str
    name: str = ""
    """Of `x = ...`."""


@dataclass(frozen=True)
class Many:
    """Several parts. `brackets`: empty for a list, `{}` for a set, else those of a tuple or interval."""

    brackets: str
    items: tuple["Node", ...]
    name: str = ""


@dataclass(frozen=True)
class Union:
    """Of sets or intervals."""

    items: tuple["Node", ...]
    name: str = ""


@dataclass(frozen=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple["Node", ...], ...]
    name: str = ""


Node = Leaf | Many | Union | Matrix


def readings(text: str) -> list[Node]:
    """What a cleaned answer may be: `1,234` is one number, or two."""
    text = re.sub("(?<=\\d)\ue002\\s*(?=\\d)", "", text).replace("\ue002", ",")
    return [read(one) for one in dict.fromkeys((join_thousands(text), text))]


def with_decimal_comma(text: str) -> Node | None:
    """`0,5` as one decimal number; None for a text that cannot be one."""
    return Leaf(text.replace(",", ".")) if DECIMAL_COMMA.fullmatch(text) else None


def join_thousands(text: str) -> str:
    """Without the separators of thousands, where they stand in no brackets."""
    for other, usual in OTHER_THOUSANDS:
        text = other.sub(lambda found, usual=usual: in_usual_form(found, usual), text)
    for pattern in (INDIAN_THOUSANDS, THOUSANDS, SPACED_THOUSANDS):
        marks = brackets_in(text)

        def joined(found: re.Match[str], marks: list[tuple[int, int]] = marks) -> str:
            depth = sum(change for place, change in marks if place < found.start())
            return found[0] if depth else found[0].replace(",", "").replace(" ", "")

        text = pattern.sub(joined, text)
    return text


def in_usual_form(found: re.Match[str], usual: str) -> str:
    """Without what parts the thousands, and with a point before the decimals."""
    whole = re.sub(r"[._']", "", found[1])
    return f"{whole}.{found[2]}" if usual == r"\1.\2" else whole


def read(text: str) -> Node:
    """The structure of an answer."""
    text = POINT_NAME.sub("", text.strip().strip(",;").strip())
    if english_number(text) is not None or compound(text) is not None:
        return Leaf(text)
    if only := re.fullmatch(f"{TEXT_OPEN}([^{TEXT_CLOSE}]*(?:[,;]|\\band\\b)[^{TEXT_CLOSE}]*){TEXT_CLOSE}", text):
        text = only[1]
    parts = [part for part in split_top(text, re.compile(rf"[,;]|{JOIN.pattern}")) if part.strip(" ,;")]
    if len(parts) > 1:
        name, first = split_name(parts[0])
        if name and not any("=" in part for part in parts[1:]):
            return Many("", (read(first), *map(read, parts[1:])), name)
        return Many("", tuple(item for part in parts for item in spliced(read(part))))
    if re.search(r"\\(?:pm|mp)(?![a-zA-Z])", text):
        return Many("", tuple(read(signed(text, sign)) for sign in "+-"))
    name, body = split_name(text)
    return named(read_one(body), name)


def spliced(node: Node) -> tuple[Node, ...]:
    """The items of a list within a list: `\\pm 1, \\pm 2` has four."""
    return node.items if isinstance(node, Many) and not node.brackets and not node.name else (node,)


def named(node: Node, name: str) -> Node:
    return replace(node, name=name) if name else node


def read_one(text: str) -> Node:
    """One part without a name."""
    text = text.strip()
    if text in REALS:
        return Many("()", (Leaf(r"-\infty"), Leaf(r"\infty")))
    if builder := BUILDER.fullmatch(text):
        return read(builder[1])
    union = [part for part in split_top(text, re.compile(r"\\cup(?![a-zA-Z])")) if part.strip()]
    if len(union) > 1:
        return Union(tuple(map(read_one, union)))
    if removed := REALS_WITHOUT.fullmatch(text):
        return without_points(split_top(removed[1], re.compile(","))) or Leaf(text)
    if (found := CASES.fullmatch(text)) and "&" not in (inside := found["array"] or found["cases"] or ""):
        return read(re.sub(r"\\\\(?:\[[^\]]*\])?", ";", inside))
    if found := MATRIX.fullmatch(text):
        return matrix(found[1], found[3])
    if bracketed := outer_brackets(text):
        opening, inside, end = bracketed
        parts = split_top(inside, re.compile(r"[,;]"))
        if len(parts) > 1 or opening == r"\{":
            brackets = {r"\{\}": "{}", r"\langle\rangle": "()"}.get(opening + end, opening + end)
            return Many(brackets, tuple(read(part) for part in parts if part.strip()))
        if (opening == "(" and end == ")") or (opening == "[" and MATRIX.fullmatch(inside.strip())):
            return read(inside)
    return interval_of(text) or Leaf(text)


def matrix(factor: str | None, inside: str) -> Matrix:
    """Rows of entries, a number before the matrix multiplied in."""
    number = (factor or "").replace(r"\cdot", "").strip()
    number = {"-": "-1", "+": "", "": ""}.get(number, number)
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\hline", inside) if row.strip()]
    entries = [[entry.strip() for entry in row.split("&")] for row in rows]
    return Matrix(
        tuple(tuple(read(f"({number}) \\cdot ({entry})" if number else entry) for entry in row) for row in entries)
    )


def without_points(points: list[str]) -> Union | None:
    """The real numbers without some, as intervals; None where the points are no numbers."""
    values = [rational(point) for point in points]
    if None in values:
        return None
    ordered = [point.strip() for _, point in sorted(zip(values, points, strict=True), key=lambda pair: pair[0] or 0)]
    ends = [r"-\infty", *ordered, r"\infty"]
    return Union(tuple(Many("()", (Leaf(low), Leaf(high))) for low, high in itertools.pairwise(ends)))


def outer_brackets(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) of brackets that hold the whole text; `[2, 5)` may mix."""
    for opening in PAIRS:
        for end in PAIRS.values():
            if not (text.startswith(opening) and text.endswith(end)) or len(text) <= len(opening) + len(end):
                continue
            if (opening in ("(", "[")) != (end in (")", "]")) or (opening == r"\{") != (end == r"\}"):
                continue
            inside = text[len(opening) : -len(end)]
            if is_balanced(inside):
                return opening, inside, end
    return None


def interval_of(text: str) -> Many | None:
    """`0 < x < 12.5` and `x > 3` as intervals of x, where the other sides are constants."""
    parts = [part.strip() for part in COMPARISON.split(text)]
    if len(parts) == 5:
        low, first, symbol, second, high = parts
        if first[0] == ">" or first == r"\ge":
            low, first, second, high = high, FLIPPED.get(second, ""), FLIPPED.get(first, ""), low
        if (
            not re.fullmatch(SYMBOL, symbol)
            or {first, second} - {"<", r"\le"}
            or not (constant(low) and constant(high))
        ):
            return None
        brackets = ("(" if first == "<" else "[") + (")" if second == "<" else "]")
        return Many(brackets, (Leaf(low), Leaf(high)), symbol)
    if len(parts) != 3:
        return None
    left, sign, right = parts
    if constant(left) and re.fullmatch(SYMBOL, right) and not constant(right):
        left, sign, right = right, FLIPPED[sign], left
    if not re.fullmatch(SYMBOL, left) or constant(left) or not constant(right):
        return None
    if sign in ("<", r"\le"):
        return Many("()" if sign == "<" else "(]", (Leaf(r"-\infty"), Leaf(right)), left)
    return Many("()" if sign == ">" else "[)", (Leaf(right), Leaf(r"\infty")), left)


def constant(text: str) -> bool:
    return bool(text) and not LETTER.search(text)


def split_name(text: str) -> tuple[str, str]:
    """(`x`, the rest) of `x = ...` or `x \\in ...`; an empty name where there is none."""
    found = NAME.match(text)
    if not found or not text[found.end() :].strip():
        return "", text
    return words_of(found[1]), text[found.end() :]


def signed(text: str, sign: str) -> str:
    """One of the two values of a text with `\\pm`."""
    other = "-" if sign == "+" else "+"
    text = re.sub(r"\\pm(?![a-zA-Z])", sign, text)
    return re.sub(r"\\mp(?![a-zA-Z])", other, text).strip().removeprefix("+")


def is_balanced(text: str) -> bool:
    depth = 0
    for _, change in brackets_in(text):
        depth += change
        if depth < 0:
            return False
    return depth == 0


def brackets_in(text: str) -> list[tuple[int, int]]:
    """(place, +1 or -1) of every bracket."""
    # The braces of \\begin{array} are no brackets of their own.
    inside = {place for mark in ENVIRONMENT.finditer(text) for place in range(mark.start() + 1, mark.end())}
    found = [(match.start(), 1) for match in OPENING.finditer(text) if not escaped(text, match.start())]
    found += [(match.start(), -1) for match in CLOSING.finditer(text) if not escaped(text, match.start())]
    return sorted(pair for pair in found if pair[0] not in inside)


def escaped(text: str, place: int) -> bool:
    """A brace of `\\{` counts once, with its backslash."""
    return place > 0 and text[place - 1] == "\\" and text[place] in "{}"


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """`text` split where the separator stands in no brackets and no words, but for words that are the separator."""
    marks, parts, start = brackets_in(text), [], 0
    for match in separator.finditer(text):
        depth = sum(change for place, change in marks if place < match.start())
        if depth == 0 and match.end() >= start:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]
