"""Times of day and ratios: `3:45 p.m.`, `2:3`. A time is compared digit by digit, a ratio up to a factor."""

import re

from megatron_mimo.reward.answers.reading import split_top
from megatron_mimo.reward.answers.text import TEXT_CLOSE, TEXT_OPEN

HALF_DAY = re.compile(rf"{TEXT_OPEN}?\s*(?<![a-zA-Z])([ap])\.?\s*m\b\.?\s*{TEXT_CLOSE}?", re.I)
WHOLE_HOUR = re.compile(rf"(?<![:\d])(\d{{1,2}})\s*(?={TEXT_OPEN}?\s*[ap]\.?\s*m\b\.?\s*{TEXT_CLOSE}?$)", re.I)
HOUR_AND_MINUTES = re.compile(r"(\d{1,2})\s*:\s*(\d\d)")


def colon_parts(text: str) -> list[str]:
    return [part.strip() for part in split_top(text, re.compile(r":|\\colon(?![a-zA-Z])"))]


def is_clock(text: str) -> bool:
    """Whether it is a time or a ratio."""
    return len(colon_parts(text)) > 1 or bool(WHOLE_HOUR.match(text.strip()))


def time_of_day(text: str) -> tuple[int, int, str] | None:
    """(hour, minute, half of the day: `a`, `p` or empty); None for no time of day."""
    text = WHOLE_HOUR.sub(r"\1:00 ", text.strip())
    half = HALF_DAY.search(text)
    found = HOUR_AND_MINUTES.fullmatch(HALF_DAY.sub("", text).strip())
    if not found or int(found[1]) > 24 or int(found[2]) > 59:
        return None
    return int(found[1]), int(found[2]), half[1].lower() if half else ""


def same_time(gold: tuple[int, int, str], answer: tuple[int, int, str]) -> bool:
    """A time without its half of the day may be the one with it, or the 24-hour form of it."""
    if gold[2] and answer[2] and gold[2] != answer[2]:
        return False
    if gold[:2] == answer[:2]:
        return True
    with_half, other = (gold, answer) if gold[2] else (answer, gold)
    return bool(with_half[2]) and not other[2] and hours_of_24(with_half) == other[:2]


def hours_of_24(time: tuple[int, int, str]) -> tuple[int, int]:
    return time[0] % 12 + 12 * (time[2] == "p"), time[1]
