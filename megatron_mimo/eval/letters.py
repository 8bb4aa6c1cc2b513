"""The letter, or letters, that a response boxes, in the forms that models write.

`a`, `(A)`, `{A}`, `\\text{A}`, `**A**`, `Option A`, `Answer: A`, `选A`, `Ａ` (full width), `A. the option's text` and
`A the option's text` are A. `A or B` and `A. or B.` are no single letter: what names several is read as several.
"""

import re
import unicodedata
from collections.abc import Sequence

from megatron_mimo.reward.boxed import last_boxed

BOX = re.compile(r"\\(boxed|fbox)\s*(?:\{|\(\s*([A-Za-z])\s*\)|([A-Za-z])\b)")
STYLE = re.compile(
    r"\\(?:boxed|fbox|text|math|emph|textnormal|displaystyle|left|right|bf|rm|it|sf|quad|qquad|mbox|hbox|underline)[a-z]*(?![a-z])"
)
NOISE = re.compile(r"\\[()\[\],;:! ]|[${}*_`~\"'“”‘’]")
PREFIX = re.compile(
    r"^(?:(?:the|my|correct|right|best|final|answers?|options?|choices?|letters?|is|are)\b\s*:?\s*"
    r"|(?:正确|最终|故|应|因此|所以|答案|选项|选择|选|答|是|为)\s*:?\s*)+",
    re.IGNORECASE,
)
SUFFIX = re.compile(
    r"\s*(?:(?:is|are) (?:correct|right|true)|(?:选项|项)?(?:是?正确的?|为?对|项|选项)?)[.。!]*$", re.IGNORECASE
)
MARKED = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:、)]*")
SEPARATOR = re.compile(r"\s*(?:[,;/&+、]|\band\b|\bor\b|和|或|与|及)\s*|\s+", re.IGNORECASE)
LETTERS = re.compile(r"[A-Z]+")
START = re.compile(r"[(\[]?([A-Za-z])(?:([)\].:、,]+)|(?=\s))\s*(.*)", re.DOTALL)
OTHER = re.compile(r"(?:^|[,;/&、]\s*|\band |\bor |和|或|与)[(\[]?([A-Z])(?:[)\].:、]|\s*$|(?=\s*[,;/&、]))")


def boxed_letters(response: str, options: Sequence[str]) -> tuple[str | None, str | None]:
    """(letters in order without repetition, what is boxed) of a response without its reasoning.

    The letters are None where what is boxed names none of the options, the box is None without one.
    """
    boxed = last_boxed(BOX.sub(braced, response))
    if boxed is None:
        return None, None
    letters = read_letters(boxed.partition("{")[2][:-1], options)
    known = letters and ord(letters[-1]) - ord("A") < len(options)
    return letters if known else None, boxed


def braced(match: re.Match[str]) -> str:
    """A box of a letter without braces gets them."""
    letter = match[2] or match[3]
    return f"\\{match[1]}{{{letter}}}" if letter else f"\\{match[1]}{{"


def read_letters(content: str, options: Sequence[str]) -> str | None:
    """The letters that a box's content names, `AC`; None for none."""
    text = plain(content)
    shortened = SUFFIX.sub("", PREFIX.sub("", text)).strip()
    for candidate in (text, shortened):
        letters = letter_before_its_text(candidate, options) or only_letters(candidate)
        if letters:
            return letters
    return letter_with_words(shortened, options)


def plain(content: str) -> str:
    """The content without LaTeX, Markdown and full-width forms."""
    text = unicodedata.normalize("NFKC", content.replace("\\ ", " "))
    return " ".join(NOISE.sub(" ", STYLE.sub(" ", text)).split())


def only_letters(text: str) -> str | None:
    """Letters and what separates them, nothing else: `A`, `(b)`, `A, C and D`, `ACD`."""
    if LETTERS.fullmatch(text) and len(set(text)) == len(text):
        return "".join(sorted(text))
    parts = [MARKED.fullmatch(part) for part in SEPARATOR.split(text)]
    letters = [part[1].upper() for part in parts if part]
    return "".join(sorted(set(letters))) if letters and len(letters) == len(parts) else None


def letter_before_its_text(text: str, options: Sequence[str]) -> str | None:
    """`B the second option`, where that is B's text, or its beginning."""
    match = START.fullmatch(text)
    place = ord(match[1].upper()) - ord("A") if match else len(options)
    if match is None or place >= len(options):
        return None
    if set(OTHER.findall(match[3])) - set(OTHER.findall(plain(options[place]))) - {match[1].upper()}:
        return None
    own, rest = same(options[place]), same(match[3])
    is_own = own == rest or (len(rest) > 3 and own.startswith(rest)) or (len(own) > 3 and rest.startswith(own))
    return match[1].upper() if own and rest and is_own else None


def letter_with_words(text: str, options: Sequence[str]) -> str | None:
    """A letter, its mark and words, unless they name another letter or are another option's text."""
    match = START.fullmatch(text)
    if not match:
        return None
    letter, rest = match[1].upper(), same(match[3])
    others = {other for other in OTHER.findall(match[3]) if ord(other) - ord("A") < max(len(options), 2)} - {letter}
    if others:
        return "".join(sorted({letter, *others}))
    is_other_option = any(rest and rest == same(option) for option in options)
    return letter if match[2] and not is_other_option else None


def same(text: str) -> str:
    """What two spellings of an option's text have in common."""
    return "".join(sign for sign in plain(text).lower() if sign.isalnum() or sign in "+-=<>/^")
