# ruff: noqa: E501 - tables of names and patterns read best in rows
"""Formulas drawn as images: TeX from the address of a rendering service, or from the alternative text."""

import re
from urllib.parse import unquote, unquote_plus

import lxml.etree as etree

from megatron_mimo.data.extract.dom import class_names
from megatron_mimo.data.extract.tex_text import Formula, delimited, tidy
from megatron_mimo.data.extract.words import words

_SERVICES = (
    (re.compile(r"codecogs\.com/.*?(?:\.latex|\.image|eqnedit\.php|\.download)\?(?:latex=)?(.+)"), unquote),
    (re.compile(r"/latex\.php\?(?:.*&)?latex=([^&]+)"), unquote_plus),
    (re.compile(r"chart\?(?=.*cht=tx)(?:.*&)?chl=([^&]+)"), unquote_plus),
    (re.compile(r"/equation\?(?:.*&)?tex=([^&]+)"), unquote_plus),
    (re.compile(r"/(?:render/)?math\?(?:.*&)?(?:math|formula|tex)=([^&]+)"), unquote_plus),
    (re.compile(r"math\.now\.sh/?\?(?:.*&)?(?:from|inline)=([^&]+)"), unquote_plus),
    (re.compile(r"(?:upmath\.me|s2cms\.ru)/(?:svg|png)/(.+)"), unquote),
    (re.compile(r"(?:latex\.csdn\.net|private\.codecogs\.com)/(?:eq|gif\.latex)\?(.+)"), unquote),
    (re.compile(r"(?:mimetex|mathtex)\.cgi\?(.+)"), unquote),
    (re.compile(r"(?:latex|tex|mathtex|formula)\.(?:php|cgi|aspx?)\?(?:.*&)?(?:tex|latex|formula|eq|q|math)=([^&]+)"), unquote_plus),
)  # fmt: skip
_ENTITIES = (("&space;", " "), ("&plus;", "+"), ("&hash;", "#"), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_DIRECTIVES = re.compile(
    r"(?:\\(?:dpi\{\d+\}|bg_\w+|fn_\w+|inline|tiny|small|large|Large|LARGE|huge|Huge|normalsize|bg\{\w*\}|fg\{\w*\}"
    r"|displaystyle)(?![A-Za-z])\s*)+"
)
_CLASSES = words(
    """
    latex tex math formula formulainl formuladsp equation eeimg ee_img mwe-math-fallback-image-inline
    mwe-math-fallback-image-display ql-img-inline-formula ql-img-displayed-formula latexcenter latexblock math-img
    mathimg md-math-img ltx_math wp-katex-eq texrender tex2jax imgmath math-image inline-formula display-formula
    math-display mathjax_image tex-image inlineequation displayequation inline-equation numbered-equation
    inlineformula displayformula numberedequation
    """
)
_ALT = re.compile(r"\\(?:frac|d?frac|sum|int|prod|sqrt|lim|begin|left|mathbb|mathcal|mathbf|text|partial|nabla|cdot|times|le|ge|in|to|infty|alpha|beta|gamma|delta|lambda|theta|sigma|omega|pi|mu|phi|epsilon)(?![a-z])")  # fmt: skip
_SOURCES = ("src", "data-src", "data-original", "data-lazy-src", "data-actualsrc", "data-original-src")


def image_formula(image: etree._Element) -> Formula | None:
    """The formula an `<img>` shows, or None when it is a picture."""
    names = {name.lower() for name in class_names(image)}
    display = any(part in name for name in names for part in ("display", "dsp", "center", "block"))
    alternative = (image.get("alt") or "").strip()
    for attribute in ("data-latex", "data-tex", "data-formula", "data-math"):
        if image.get(attribute):
            return _formula(image.get(attribute, ""), display)
    tex = _from_address(image)
    if tex:
        return _formula(tex, display)
    if not alternative:
        return None
    return _formula(alternative, display) if _is_tex(alternative, names) else None


def _is_tex(alternative: str, names: set[str]) -> bool:
    if not names.isdisjoint(_CLASSES):
        return True
    return delimited(alternative) is not None or bool(_ALT.search(alternative))


def _formula(text: str, display: bool) -> Formula | None:
    directives = _DIRECTIVES.match(text.strip())
    text = text.strip()[directives.end() :] if directives else text
    found = delimited(text)
    if found is not None and looks_like_environment(text):
        return Formula(found.tex, True)
    if found is not None:
        return Formula(found.tex, found.is_display or display)
    tex = tidy(text)
    return Formula(tex, display) if tex else None


def looks_like_environment(text: str) -> bool:
    """Whether the text is an environment of its own, such as `\\begin{align}..`."""
    return text.lstrip().startswith((r"\begin{align", r"\begin{equation", r"\begin{gather"))


def _from_address(image: etree._Element) -> str:
    for name in _SOURCES:
        address = image.get(name)
        if not address or ("?" not in address and "/svg/" not in address and "/png/" not in address):
            continue
        for pattern, decode in _SERVICES:
            match = pattern.search(address[:8000])
            if match:
                tex = match.group(1)
                for entity, character in _ENTITIES:
                    tex = tex.replace(entity, character)
                return decode(tex)
    return ""
