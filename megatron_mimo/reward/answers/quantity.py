"""A number with its unit: money, percent, degrees and minutes, compound units (`1 hour 30 minutes`), millions."""

import re
from fractions import Fraction

from megatron_mimo.reward.answers.exact_numbers import rational
from megatron_mimo.reward.answers.numerals import MULTIPLIERS
from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN
from megatron_mimo.reward.answers.units import NAMES, Unit, read_unit

CJK = "\u3400-\u9fff\uac00-\ud7a3\u3041-\u30ff"
"""Chinese characters, Hangul, kana."""
SIGNS = "\ue003¥€£₹₩"
MONEY = {"USD": "\ue003", "RMB": "¥", "CNY": "¥", "Rs": "₹", "INR": "₹", "EUR": "€", "GBP": "£"}
CURRENCY = re.compile(
    rf"^([-+]?)\s*(?:(?:US|CA|HK|A)?([{SIGNS}])|({'|'.join(MONEY)})\.?\s*)\s*(?=[-+]?\s*[\d.\\])",
)
WORD_TAIL = re.compile(
    rf"^(.*?[\d)}}a-z])\s*(/?\s*{TEXT_OPEN}.*|\\?%.*|\^\\circ.*|[{CJK}].*|(?<=[\d)}}])\s*(?:percent|pct|per\s|degrees?|deg)\b.*"
    rf"|(?<=[\d)}} ])(?:[a-zA-Z]{{2,}}+|(?<= )[a-zA-Z])(?:[\s/^.]*+(?:[a-zA-Z]++|\{{?-?\d\}}?))*+|[{SIGNS}¢])$",
    re.S,
)
MULTIPLIED = re.compile(rf"^({'|'.join(sorted(MULTIPLIERS, key=len, reverse=True))})(?![a-zA-Z])\s*(.*)$", re.S)
PART = rf"(\d+(?:\.\d+)?)\s*([a-zA-Z]+|[{CJK}]+)\.?\s*(?:,|and(?![a-zA-Z]))?\s*"
COMPOUND = re.compile(rf"(?:{PART}){{2,4}}")
DEGREES_AND_MINUTES = re.compile(r"^(-?)(\d+)\s*\^\\circ\s*(\d+(?:\.\d+)?)\s*'\s*(?:(\d+(?:\.\d+)?)\s*(?:''|\"))?$")
BIG_OPERATOR = re.compile(r"\\(?:i*int|oint|sum|prod|lim)(?![a-zA-Z])")
UNIT_FRACTION = re.compile(r"(?<=[\d}])\s*\\frac\s*\{([a-zA-Z]+)\}\s*\{([a-zA-Z]+)(\^\{?\d\}?)?\}$")
SYMBOLS = (
    (r"\\cent(?![a-zA-Z])", "¢"),
    (r"\\Omega(?![a-zA-Z])", " ohm"),
    (r"\\mu\s*\ue000?\s*([mgs])(?![a-zA-Z])\ue001?", r" u\1"),
)


def split_unit(text: str) -> tuple[str, Unit | None]:
    """(formula, unit) of a number with a unit, a currency sign, a percent sign or degrees."""
    text = with_plain_units(strip_lead(text))
    if BIG_OPERATOR.search(text):
        return text, None
    if found := CURRENCY.match(text):
        body, tail = split_unit(found[1] + text[found.end() :])
        return body, amount(found[2] or MONEY[found[3]], tail)
    if whole := degrees_and_minutes(text) or compound(text):
        return whole
    if found := WORD_TAIL.match(text):
        return with_tail(text, found[1].strip(), found[2].strip())
    return text, None


def with_plain_units(text: str) -> str:
    """Symbols and fractions that are units after a number, as words."""
    for symbol, word in SYMBOLS:
        text = re.sub(rf"(?<=[\d}}])\s*{symbol}", word, text)
    found = UNIT_FRACTION.search(text)
    if found and found[1].lower() in NAMES and found[2].lower() in NAMES:
        text = f"{text[: found.start()]} {found[1]}/{found[2]}{found[3] or ''}"
    return text


def amount(sign: str, tail: Unit | None) -> Unit | None:
    """The unit of an amount of money: `$20 per hour` has both."""
    money = read_unit(sign)
    if tail is None or tail.words or money is None:
        return money
    if any(power < 0 for _, power in tail.dimensions) and not set(money.dimensions) & set(tail.dimensions):
        return Unit(tuple(sorted((*money.dimensions, *tail.dimensions))), money.factor * tail.factor)
    return tail


def with_tail(text: str, body: str, tail: str) -> tuple[str, Unit | None]:
    """What follows a number, as a multiplier and a unit."""
    if re.fullmatch(r".*\d\s*[a-zA-Z]", body) and not tail.startswith((TEXT_OPEN, "^")):
        return text, None
    plain = tail.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    if found := MULTIPLIED.match(plain):
        value, factor = rational(body), MULTIPLIERS[found[1]]
        body = rf"({body}) \cdot {factor}" if value is None else fraction(value * factor)
        return body, read_unit(found[2])
    unit = read_unit(tail)
    if unit is not None and unit.words and (re.search(r"\d", tail) or not plain_words(tail)):
        return text, None
    return body, unit


def compound(text: str) -> tuple[str, Unit] | None:
    """`6 feet 2 inches` as one number: known units of one kind."""
    text = text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    if len(text) > 80 or not COMPOUND.fullmatch(text):
        return None
    total, dimensions = Fraction(0), set()
    for number, name in re.findall(PART, text):
        unit = read_unit(name)
        if unit is None or unit.words:
            return None
        total += Fraction(number) * unit.factor
        dimensions.add(unit.dimensions)
    return (fraction(total), Unit(dimensions.pop())) if len(dimensions) == 1 else None


def degrees_and_minutes(text: str) -> tuple[str, Unit] | None:
    """30^\\circ 15' as one number of degrees."""
    if not (found := DEGREES_AND_MINUTES.match(text)):
        return None
    sign, degrees, minutes, seconds = found.groups()
    value = Fraction(degrees) + Fraction(minutes) / 60 + Fraction(seconds or 0) / 3600
    return fraction(-value if sign else value), Unit((("angle", 1),))


def fraction(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def plain_words(tail: str) -> bool:
    return tail.startswith(TEXT_OPEN) or bool(re.match(rf"[{CJK}]", tail)) or len(tail) > 3


def strip_lead(text: str) -> str:
    """Without words before a number (`about 5`); a `not` stays."""
    found = re.match(rf"^{TEXT_OPEN}([^{TEXT_CLOSE}\d]*){TEXT_CLOSE}\s*(?=[-+\d\\.])|^\\approx(?![a-zA-Z])", text)
    if found and not re.search(r"\b(?:not|no|never|isn't)\b", found[1] or "", re.I):
        return text[found.end() :].strip()
    return text.strip()
