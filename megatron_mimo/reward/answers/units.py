"""Units after a number: two that both stand there must measure the same thing, and are converted into each other."""

import re
from dataclasses import dataclass
from fractions import Fraction

from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN

# Dimension, factor to that dimension's first unit, names.
TABLE = """
length 1 m meter metre 米
length 1/100 cm centimeter centimetre 厘米 公分
length 1/1000 mm millimeter millimetre 毫米
length 1/1000000 um micrometer micrometre micron
length 1/1000000000 nm nanometer nanometre
length 1/10 dm decimeter decimetre 分米
length 1000 km kilometer kilometre 千米 公里
length 127/5000 inch inche in 英寸
length 381/1250 ft foot feet 英尺
length 1143/1250 yd yard
length 201168/125 mi mile 英里
mass 1 g gram 克
mass 1/1000 mg milligram 毫克
mass 1000 kg kilogram 千克 公斤
mass 1000000 t ton tonne 吨
mass 45359237/100000 lb pound
time 1 s sec second 秒
time 60 min minute 分钟 分
time 3600 h hr hour 小时 时
time 86400 day 天 日
time 604800 week 周 星期
month 1 month 月
month 12 year 年 yr
volume 1 l liter litre 升
volume 1/1000 ml milliliter millilitre 毫升
dollar 1 \ue003 dollar usd buck 美元
dollar 1/100 cent ¢ 美分
yuan 1 ¥ yuan rmb cny 元 块
yuan 1/10 jiao 角
yuan 1/100 fen
euro 1 € euro eur
pound_sterling 1 £ gbp
pound_sterling 1/100 pence penny
rupee 1 ₹ rupee rs inr
won 1 ₩ won 원
yen 1 円 yen
angle 1 degree deg 度 ^\\circ
angle 1/60 arcminute
radian 1 rad radian 弧度
percent 1 % \\% percent pct percentage
power 1 w watt 瓦
power 1000 kw kilowatt 千瓦
energy 1 j joule 焦耳
energy 1000 kj kilojoule
force 1 n newton 牛顿
voltage 1 v volt 伏
pressure 1 pa pascal 帕
frequency 1 hz hertz
resistance 1 ohm
celsius 1 celsius
fahrenheit 1 fahrenheit
charge 1 coulomb
current 1 amp ampere
"""
NAMES: dict[str, tuple[str, Fraction]] = {}
for _line in TABLE.strip().splitlines():
    _dimension, _factor, *_names = _line.split()
    for _name in _names:
        NAMES[_name] = (_dimension, Fraction(_factor))
SPEEDS = {"mph": "mi/h", "kph": "km/h", "kmph": "km/h", "fps": "ft/s", "cc": "cm^3", "sq": "square", "cu": "cubic"}
FILLERS = frozenset(
    (
        "long", "wide", "tall", "high", "deep", "away", "total", "of", "old", "exactly", "only", "each", "altogether",
        "unit", "units", "about", "approximately", "the", "roughly", "around",
    )
)  # fmt: skip
SQUARE = {"square": 2, "squared": 2, "平方": 2, "cubic": 3, "cubed": 3, "立方": 3}
CUBIC_VOLUME = Fraction(1, 1000)
"""Cubic metres in a litre."""


@dataclass(frozen=True)
class Unit:
    """A product of dimensions with a factor, or words that are no known unit."""

    dimensions: tuple[tuple[str, int], ...] = ()
    factor: Fraction = Fraction(1)
    words: str = ""


def read_unit(text: str) -> Unit | None:
    """The unit that `text` names, known or not; None for no unit at all (empty, or only filler words)."""
    text = text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip(" .")
    text = re.sub(r"^\\circ", r"^\\circ ", text)
    words = [word for word in split_words(text) if word not in FILLERS]
    if not words:
        return None
    known = known_unit(words)
    return known or Unit(words=" ".join(word.rstrip("s") for word in words))


def split_words(text: str) -> list[str]:
    for short, whole in SPEEDS.items():
        text = re.sub(rf"(?<![a-zA-Z]){short}(?![a-zA-Z])", whole, text, flags=re.I)
    text = re.sub(r"(平方|立方)", r" \1 ", text)
    text = re.sub(r"(?:\^\\circ|degrees?|deg\.?)\s*(?:celsius|c)\b|摄氏度", " celsius ", text, flags=re.I)
    text = re.sub(r"(?:\^\\circ|degrees?|deg\.?)\s*(?:fahrenheit|f)\b|华氏度", " fahrenheit ", text, flags=re.I)
    text = re.sub(r"\\cdot|[()\[\]]", " ", text)
    text = re.sub(r"\s*(?:/|\bper\b|每)\s*", " / ", text)
    text = re.sub(r"\s*\^\s*\{?\s*(-?\d)\s*\}?", r"^\1", text)
    return [word.lower() for word in text.replace(",", " ").split()]


def known_unit(words: list[str]) -> Unit | None:
    """All words must be units, powers or `/`."""
    dimensions: dict[str, int] = {}
    factor, sign, power = Fraction(1), 1, 1
    last: tuple[str, Fraction, int] | None = None
    for word in words:
        if word == "/":
            sign = -1
        elif word in SQUARE:
            if word.endswith("d") and last is not None:
                name, size, exponent = last
                dimensions[name] = dimensions.get(name, 0) + exponent * (SQUARE[word] - 1)
                factor *= size ** (exponent * (SQUARE[word] - 1))
            else:
                power = SQUARE[word]
        else:
            name, _, exponent = word.partition("^") if not word.startswith("^") else (word, "", "")
            found = NAMES.get(name) or NAMES.get(name.rstrip("s")) or NAMES.get(name.rstrip("."))
            if found is None:
                return None
            exponent = sign * power * int(exponent or 1)
            dimensions[found[0]] = dimensions.get(found[0], 0) + exponent
            factor *= found[1] ** exponent
            last, power = (*found, exponent), 1
    if "volume" in dimensions:
        litres = dimensions.pop("volume")
        dimensions["length"] = dimensions.get("length", 0) + 3 * litres
        factor *= CUBIC_VOLUME**litres
    return Unit(tuple(sorted((name, number) for name, number in dimensions.items() if number)), factor)
