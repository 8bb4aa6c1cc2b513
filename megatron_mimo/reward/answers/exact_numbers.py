"""Numbers read exactly: integers of any length, decimals, repeating decimals, fractions, mixed numbers, bases."""

import re
from fractions import Fraction

from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN

MAX_EXPONENT = 5000
MAX_ENDLESS = 200
"""Characters of a decimal with dots at its end in which a period is looked for."""
GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
FRACTION = re.compile(rf"\\frac\s*{GROUP}\s*{GROUP}")
REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot|overset\{\.\})\s*\{?(\d+)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?")
PARENTHESES = re.compile(r"(\d*)\.(\d*)\((\d+)\)")
ELLIPSIS = re.compile(r"(\d*)\.(\d*?)(\d+?)\3\3+\s*\\ldots")
DECIMAL = re.compile(r"\d*\.?\d+|\d+\.")
SCIENTIFIC = re.compile(r"(?:(.+?)\s*\\(?:times|cdot)\s*)?10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))")
POWER = re.compile(r"(\d+)\s*\^\s*(?:\{\s*(\d+)\s*\}|(\d))")
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip
BASE = re.compile(
    rf"(-?[0-9A-Za-z]+)\s*(?:_\s*\{{?\s*\(?\s*{TEXT_OPEN}?\s*(?:base\s*)?(\d+|{'|'.join(WORDS)})\s*{TEXT_CLOSE}?\s*\)?\s*\}}?"
    rf"|{TEXT_OPEN}?\s*\(?\s*{TEXT_OPEN}?(?:in\s+)?base[\s-]*{TEXT_CLOSE}?\s*(\d+|{'|'.join(WORDS)})\)?\s*{TEXT_CLOSE}?\)?)"
)


def rational(text: str) -> Fraction | None:
    """The exact value of a number as it is written, None for anything else."""
    text = text.strip()
    sign = 1
    while text[:1] in ("+", "-"):
        sign, text = (-sign if text[0] == "-" else sign), text[1:].strip()
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    inner = rational(text) if text.startswith("-") else unsigned(text)
    return None if inner is None else sign * inner


def unsigned(text: str) -> Fraction | None:
    if DECIMAL.fullmatch(text):
        return Fraction(text.rstrip(".") if text != "." else "0")
    if found := REPEATING.fullmatch(text):
        whole, plain, first, between, last = found.groups()
        return repeating(whole, plain, first + (between or "") + (last or ""))
    is_endless = text.endswith(r"\ldots") and len(text) < MAX_ENDLESS
    if found := PARENTHESES.fullmatch(text) or (ELLIPSIS.fullmatch(text) if is_endless else None):
        return repeating(*found.groups())
    if found := FRACTION.fullmatch(text):
        return quotient(rational(found[1]), rational(found[2]))
    if (found := re.fullmatch(r"(\d+)\s*(\\frac.*)", text)) or (
        found := re.fullmatch(r"(\d+)\s+(\d+\s*/\s*\d+)", text)
    ):
        part = unsigned(found[2])
        return None if part is None else Fraction(int(found[1])) + part
    if found := SCIENTIFIC.fullmatch(text):
        mantissa, exponent = Fraction(1) if found[1] is None else rational(found[1]), int(found[2] or found[3])
        return None if mantissa is None or abs(exponent) > MAX_EXPONENT else mantissa * Fraction(10) ** exponent
    if found := POWER.fullmatch(text):
        base, exponent = int(found[1]), int(found[2] or found[3])
        return Fraction(base**exponent) if exponent * base.bit_length() <= 1 << 17 else None
    numerator, slash, denominator = text.rpartition("/")
    if slash and numerator and "(" not in text:
        return quotient(rational(numerator), unsigned(denominator.strip()))
    return None


def repeating(whole: str, plain: str, block: str) -> Fraction:
    """`whole.plain block block ...`"""
    start = Fraction(int((whole + plain) or 0), 10 ** len(plain))
    return start + Fraction(int(block), 10 ** len(plain) * (10 ** len(block) - 1))


def quotient(numerator: Fraction | None, denominator: Fraction | None) -> Fraction | None:
    return numerator / denominator if numerator is not None and denominator else None


def decimals(text: str) -> int | None:
    """Digits after the point of a plain decimal, None for another number."""
    found = re.fullmatch(r"[+-]?\s*\d*\.(\d+)", text.strip())
    return len(found[1]) if found else None


def in_base(text: str) -> tuple[str, int] | None:
    """(digits without leading zeros, base) of `52_8`, `52_{\\text{eight}}`, `52 (base 8)`."""
    found = BASE.fullmatch(re.sub(r"^\(\s*([0-9A-Za-z]+)\s*\)(?=\s*_)", r"\1", text.strip()))
    if not found:
        return None
    name = found[2] or found[3]
    base = int(name) if name.isdigit() else WORDS.index(name)
    try:
        int(found[1], base)
    except ValueError:
        return None
    return found[1].lower().lstrip("0") or "0", base
