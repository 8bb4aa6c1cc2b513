"""Comparison of a program's answer with the expected one; runs outside of the sandbox on plain text and JSON."""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from typing import Any, Literal

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def same_output(
    actual: bytes,
    expected: bytes,
    compare: Literal["tokens", "lines", "exact", "decimals"],
    float_tolerance: float | None,
) -> bool:
    """Whether standard output is right.

    `tokens`: equal sequences of whitespace-separated tokens. `lines`: equal lines up to white space at their ends and
    empty lines at the end. `exact`: equal bytes. `decimals`: LiveCodeBench's rule, stripped lines that are equal as
    text or number by number as exact decimals. With `float_tolerance`, two tokens are also equal if both are decimal
    numbers, at least one has a point or an exponent, and |a - b| <= tolerance * max(1, |b|).
    """
    if actual == expected:
        return True
    if compare == "exact":
        return False
    if compare == "decimals":
        return same_lines(actual.decode(errors="replace"), expected.decode(errors="replace"))
    got, want = (split_tokens if compare == "tokens" else split_lines)(actual, expected)
    if float_tolerance is None:
        return got == want
    return len(got) == len(want) and all(same_tokens(a, b, float_tolerance) for a, b in zip(got, want, strict=True))


def same_lines(printed: str, wanted: str) -> bool:
    """LiveCodeBench's rule for standard output: stripped lines, equal as text or as decimals."""
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (printed, wanted))
    return len(ours) == len(theirs) and all(map(same_line, ours, theirs))


def same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    numbers = decimals(ours)
    return numbers is not None and numbers == decimals(theirs)


def decimals(line: str) -> list[Decimal] | None:
    """The line's tokens as exact decimals; None if one is no number."""
    try:
        return [Decimal(token) for token in line.split()]
    except InvalidOperation:
        return None


def split_tokens(actual: bytes, expected: bytes) -> tuple[list[bytes], list[bytes]]:
    """Tokens of both; of `actual` one more than expected at most, so that a flood costs no memory here."""
    want = expected.split()
    return actual.split(None, len(want)), want


def split_lines(actual: bytes, expected: bytes) -> tuple[list[bytes], list[bytes]]:
    want = expected.rstrip().split(b"\n")
    got = actual.rstrip().split(b"\n", len(want))
    return [line.rstrip() for line in got], [line.rstrip() for line in want]


def same_tokens(actual: bytes, expected: bytes, tolerance: float) -> bool:
    """Token by token inside two tokens or lines."""
    pairs = zip_longest(actual.split(), expected.split())
    return all(a is not None and b is not None and close_text(a, b, tolerance) for a, b in pairs)


def close_text(actual: bytes, expected: bytes, tolerance: float) -> bool:
    if actual == expected:
        return True
    texts = [token.decode("ascii", "replace") for token in (actual, expected)]
    if not all(NUMBER.fullmatch(text) for text in texts):
        return False
    # Two integers are compared as text: 10**18 and 10**18 + 1 are different answers.
    return any(set(text) & set(".eE") for text in texts) and close(float(texts[0]), float(texts[1]), tolerance)


def close(actual: float, expected: float, tolerance: float) -> bool:
    return actual == expected or abs(actual - expected) <= tolerance * max(1.0, abs(expected))


def same_json(actual: bytes, expected: Any, float_tolerance: float | None) -> bool:
    """Whether a result written as JSON equals `expected`: Python's == on numbers, so 1 == 1.0 == true.

    Text that is no JSON, nested too deeply or far too long is a wrong answer: only the program can have written it.
    """
    if len(actual) > 16 * len(json.dumps(expected)) + 1024:
        return False
    try:
        return same_value(json.loads(actual), expected, float_tolerance)
    except (ValueError, RecursionError, OverflowError):
        return False


def same_value(actual: Any, expected: Any, tolerance: float | None) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(same_value(a, b, tolerance) for a, b in zip(actual, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and actual.keys() == expected.keys()
            and all(same_value(actual[key], value, tolerance) for key, value in expected.items())
        )
    if isinstance(actual, float) and isinstance(expected, float) and math.isnan(actual) and math.isnan(expected):
        return True
    if tolerance is not None and isinstance(expected, float) and isinstance(actual, int | float):
        return math.isfinite(actual) and close(float(actual), expected, tolerance)
    return actual == expected
