"""Numbers in words: `twenty-one`, `two hundred and five`, 三分之二, 百分之五, and what multiplies: million, 万, 亿."""

import re
from fractions import Fraction

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
MULTIPLIERS = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8,
}  # fmt: skip
CHINESE_DIGITS = {letter: value for value, letter in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
CHINESE_POWERS = {"十": 10, "百": 100, "千": 1000}
CHINESE = f"[{''.join((*CHINESE_DIGITS, *CHINESE_POWERS, '万', '亿'))}]+"
CHINESE_FRACTION = re.compile(rf"^(百|{CHINESE}|\d+)分之({CHINESE}|\d+(?:\.\d+)?)$")


def english_number(words: str) -> int | None:
    """`one hundred and five` -> 105; None for anything else, `two three` too."""
    total = part = 0
    parts = re.sub(r"(?<=[a-z])-(?=[a-z])|\band\b", " ", words.casefold()).split()
    for word in parts:
        if word in UNITS and part % 100 in (0, *range(20, 100, 10)):
            part += UNITS.index(word)
        elif word in TENS and part % 100 == 0:
            part += 10 * TENS.index(word)
        elif word == "hundred" and part < 20:
            part = 100 * (part or 1)
        elif word in MULTIPLIERS and word.isascii() and word != "hundred":
            total, part = total + (part or 1) * MULTIPLIERS[word], 0
        else:
            return None
    return total + part if parts else None


def chinese_number(text: str) -> int | None:
    """三百二十 -> 320, 十二 -> 12, 二〇二四 -> 2024; None for anything else."""
    if not re.fullmatch(CHINESE, text) or (text[0] != "十" and not any(letter in CHINESE_DIGITS for letter in text)):
        return None
    if len(text) > 1 and all(letter in CHINESE_DIGITS for letter in text):
        return int("".join(str(CHINESE_DIGITS[letter]) for letter in text))
    total = section = digit = 0
    for letter in text:
        if letter in CHINESE_DIGITS:
            digit = CHINESE_DIGITS[letter]
        elif letter in CHINESE_POWERS:
            section, digit = section + (digit or 1) * CHINESE_POWERS[letter], 0
        else:
            total, section, digit = (total + section + digit) * MULTIPLIERS[letter], 0, 0
    return total + section + digit


def chinese_fraction(text: str) -> Fraction | None:
    """三分之二 -> 2/3, 百分之35 -> 35/100."""
    found = CHINESE_FRACTION.match(text)
    if not found:
        return None
    parts = (found[1].replace("百", "一百") if found[1] == "百" else found[1], found[2])
    below, above = (Fraction(part) if part.isascii() else chinese_number(part) for part in parts)
    return Fraction(above) / Fraction(below) if above is not None and below else None


def in_digits(text: str) -> str:
    """An answer that is a number in words alone, as one in digits; anything else as it is."""
    if (share := chinese_fraction(text)) is not None:
        if text.startswith("百分之"):
            return rf"{float(100 * share):g}\%"
        return rf"\frac{{{share.numerator}}}{{{share.denominator}}}"
    number = english_number(text) if text.isascii() else chinese_number(text)
    return text if number is None else str(number)
