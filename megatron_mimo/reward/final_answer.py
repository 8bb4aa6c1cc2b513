"""Where a response's answer may stand: what follows its reasoning. Rewards and evaluation read the same part."""

import re

OPENS, CLOSES = "<think>", "</think>"
SPOKEN_OF = re.compile(r"(?<!`)`</?think>`(?!`)")
"""In single backticks the marks are spoken of, not used."""


def final_part(response: str) -> str:
    """The text after the last `</think>`, up to a thought that is opened again and never closed.

    A response whose only thought never ends has what stands before the thought, usually nothing: a draft inside of a
    truncated thought is no answer.
    """
    marks = SPOKEN_OF.sub(lambda match: " " * len(match[0]), response)
    closed = marks.rfind(CLOSES)
    start = closed + len(CLOSES) if closed >= 0 else 0
    opened = marks.find(OPENS, start)
    return response[start:] if opened < 0 else response[start:opened]
