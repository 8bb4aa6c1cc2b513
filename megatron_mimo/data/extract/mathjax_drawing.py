"""MathJax 3 drawings without MathML: the drawing's own element names spell the formula out.

CHTML draws `<mjx-msup><mjx-mi><mjx-c class="mjx-c1D465"/>..`, SVG draws
`<g data-mml-node="msup"><use data-c="1D465"/>`. Both are turned into MathML in place.
"""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.words import words

_CHARACTER = re.compile(r"\bmjx-c([0-9A-F]{2,6})\b")
_KEPT = words(
    """
    math mrow mi mn mo mtext ms mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd
    mphantom menclose mstyle mpadded mmultiscripts
    """
)
_NOISE = words(
    """
    mjx-surd mjx-nstrut mjx-dstrut mjx-line mjx-strut mjx-assistive-mml defs title rect line
    """
)


def drawing_to_mathml(container: etree._Element) -> etree._Element | None:
    """A `<math>` built from what an `<mjx-container>` draws; None when nothing in it can be read."""
    math = etree.Element("math")
    for child in container:
        _copy(child, math)
    return math if len(math) else None


def _copy(source: etree._Element, target: etree._Element) -> None:
    """Append what `source` draws to `target`, in MathML's order and names."""
    if not isinstance(source.tag, str) or source.tag in _NOISE:
        return
    name = source.get("data-mml-node") or source.tag.removeprefix("mjx-")
    if name in ("TeXAtom", "texatom"):
        name = "mrow"
    character = _drawn_character(source)
    if character:
        _append_text(target, character)
        return
    if name not in _KEPT:
        _copy_children(source, target)
        return
    copy = etree.SubElement(target, name)
    _copy_children(source, copy)
    if name in ("munder", "mover", "munderover", "msub", "msup", "msubsup", "mfrac", "mroot"):
        _group_parts(source, copy)


def _copy_children(source: etree._Element, target: etree._Element) -> None:
    if target.tag in ("mtext", "mi", "mo", "mn") and source.text and source.text.strip():
        _append_text(target, source.text)
    for child in source:
        _copy(child, target)


def _append_text(target: etree._Element, text: str) -> None:
    target.text = (target.text or "") + text


def _drawn_character(element: etree._Element) -> str:
    code = element.get("data-c")
    if code is None and element.tag == "mjx-c":
        match = _CHARACTER.search(element.get("class", ""))
        code = match.group(1) if match else None
    try:
        return chr(int(code, 16)) if code else ""
    except (ValueError, OverflowError):
        return ""


def _group_parts(source: etree._Element, copy: etree._Element) -> None:
    """CHTML draws a superscript before a subscript, and what is over before its base: put them in MathML's order."""
    if copy.tag in ("mover", "munderover") and source.find("mjx-over") is not None and len(copy) > 1:
        over = copy[0]
        copy.remove(over)
        copy.append(over)
    if copy.tag == "msubsup" and source.find("mjx-script") is not None and len(copy) == 3:
        superscript = copy[1]
        copy.remove(superscript)
        copy.append(superscript)
