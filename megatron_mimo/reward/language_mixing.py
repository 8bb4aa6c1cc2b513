"""Optional penalty for mixing languages; off by default.

The report rewards accuracy alone (no format reward, no length penalty), so this is no part of the recipe: a penalty
trades accuracy for readability, and a prompt or answer may rightly hold several scripts.
"""

import re
import unicodedata
from collections import Counter

LATEX_AND_CODE = re.compile(r"```.*?```|\$\$.*?\$\$|\$.*?\$|\\[a-zA-Z]+", re.DOTALL)


def minority_share(text: str) -> float:
    """Share of letters outside the text's most frequent script, 0 ... 1. Code, formulas and LaTeX commands left out."""
    scripts = Counter(script(letter) for letter in LATEX_AND_CODE.sub(" ", text) if letter.isalpha())
    total = sum(scripts.values())
    return 1 - max(scripts.values()) / total if total else 0.0


def script(letter: str) -> str:
    """First word of the Unicode name: LATIN, CJK, CYRILLIC ...; the Japanese syllabaries count with CJK."""
    word = unicodedata.name(letter, "OTHER").split()[0]
    return "CJK" if word in ("HIRAGANA", "KATAKANA") else word
