"""TeX as text: delimiters, wrappers that pages put around it, and the form it is written in."""

import re
from dataclasses import dataclass

_DELIMITERS = (("$$", "$$", True), (r"\[", r"\]", True), (r"\(", r"\)", False), ("$", "$", False))
_CDATA = re.compile(r"%?\s*<!\[CDATA\[|%?\s*\]\]>")
_COMMENTED_BREAK = re.compile(r"(?<!\\)%[ \t]*\n\s*")
_BLANK_LINES = re.compile(r"\s*\n\s*")
_DISPLAYSTYLE = re.compile(r"\\(?:displaystyle|textstyle)(?![A-Za-z])\s*")
_TEX_SIGNS = re.compile(r"\\[A-Za-z]{2,}|[\^_]\{|[A-Za-z0-9)][\^_][A-Za-z0-9]|\\\\")


@dataclass(frozen=True)
class Formula:
    """TeX without delimiters, and how it stood on the page."""

    tex: str
    is_display: bool = False
    number: str = ""
    """The equation number printed beside it, with its brackets."""


def tidy(tex: str) -> str:
    """TeX as an author would have typed it: no page's wrappers, no blank lines, no outer `\\displaystyle`."""
    tex = _COMMENTED_BREAK.sub("", _CDATA.sub("", tex)).strip()
    tex = _unwrap(tex)
    start = _DISPLAYSTYLE.match(tex)
    tex = tex[start.end() :] if start else tex
    return _BLANK_LINES.sub("\n", tex).replace("\xa0", " ").strip()


def _unwrap(tex: str) -> str:
    """`{\\displaystyle x}` -> `x`, when the braces are a pair."""
    if not tex.startswith("{") or not _DISPLAYSTYLE.match(tex, 1) or not tex.endswith("}"):
        return tex
    depth = 0
    for at, character in enumerate(tex):
        if character in "{}" and (at == 0 or tex[at - 1] != "\\"):
            depth += 1 if character == "{" else -1
            if depth == 0 and at < len(tex) - 1:
                return tex
    return tex[1:-1].strip() if depth == 0 else tex


def delimited(text: str) -> Formula | None:
    """The formula when the whole text is one formula in delimiters, else None."""
    text = text.strip()
    for opening, closing, is_display in _DELIMITERS:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner.replace(r"\$", "") and not inner.endswith("\\"):
                return Formula(tidy(inner), is_display)
    if text.startswith(r"\begin{") and text.endswith("}") and text.count(r"\begin{") == text.count(r"\end{"):
        return Formula(tidy(text), True)
    return None


def looks_like_tex(text: str) -> bool:
    """Whether a text without delimiters is TeX rather than words."""
    return bool(_TEX_SIGNS.search(text))
