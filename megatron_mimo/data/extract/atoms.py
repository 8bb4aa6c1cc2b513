"""One walk over the page that turns formulas and code into atoms and drops what is never text."""

from typing import cast

import lxml.etree as etree

from megatron_mimo.data.extract.code_blocks import embedded_source, mark_code
from megatron_mimo.data.extract.code_labels import drop_labels
from megatron_mimo.data.extract.dom import CODE, DROPPED, FORMULA, become, drop, text_of
from megatron_mimo.data.extract.hidden import is_hidden
from megatron_mimo.data.extract.latexml import mark_equations
from megatron_mimo.data.extract.tex import mark_formula
from megatron_mimo.data.extract.words import words

_NEVER_TEXT = words(
    """
    script style noscript template svg canvas iframe object embed applet audio video map input select option
    datalist head progress meter dialog frameset noframes link meta base button textarea rp rt optgroup portal
    """
)
_MAX_NAME_CHARACTERS = 2000
_LARGE_CHARACTERS = 500
_DONE = frozenset((FORMULA, CODE, DROPPED))
_STRUCK_BY_STYLE = etree.XPath("descendant::*[self::span or self::font or self::em][contains(@style, 'line-through')]")


def mark_atoms(root: etree._Element) -> None:
    """Turn every formula and code block below `root` into an atom (see `dom`)."""
    source = embedded_source(root)
    _open_noscript(root)
    pending = [root]
    while pending:
        element = pending.pop()
        tag = element.tag
        if not isinstance(tag, str) or tag in _DONE:
            continue
        names = element.get("class") or ""
        if len(names) > _MAX_NAME_CHARACTERS:
            names = names[:_MAX_NAME_CHARACTERS]
            element.set("class", names)
        if tag == "table" and names and mark_equations(element, tag, names):
            continue
        if mark_formula(element, tag, names):
            continue
        if is_hidden(element) and next(element.iter("math"), None) is None:
            drop(element)
        elif mark_code(element, tag, names):
            continue
        elif tag in _NEVER_TEXT:
            drop(element)
        else:
            pending.extend(reversed(element))
    for struck in cast("list[etree._Element]", _STRUCK_BY_STYLE(root)):
        struck.tag = "s"
    _drop_repeated_code(root)
    for code in list(root.iter(CODE)):
        drop_labels(code)
    if source and next(root.iter(CODE), None) is None:
        become(etree.SubElement(root, "x-new"), CODE, source)


def _open_noscript(root: etree._Element) -> None:
    """A `<noscript>` that holds most of the page's text was left open by mistake: the page is in it."""
    for element in list(root.iter("noscript")):
        own = len(text_of(element))
        if own < _LARGE_CHARACTERS:
            continue
        programs = sum(len(text_of(node)) for node in root.iter("script", "style"))
        if own > 0.5 * (len(text_of(root)) - programs):
            element.tag = "div"


def _drop_repeated_code(root: etree._Element) -> None:
    """A viewer may hold the same file twice in a row: for the reader and for the cursor."""
    last: etree._Element | None = None
    for element in list(root.iter(CODE)):
        text = element.text or ""
        if last is not None and text == last.text and "\n" in text and _are_side_by_side(last, element):
            drop(element)
        else:
            last = element


def _are_side_by_side(code: etree._Element, other: etree._Element) -> bool:
    """Whether no text stands between two elements that hold the same text."""
    around = set(code.iterancestors())
    shared = next(node for node in other.iterancestors() if node in around)
    text = "".join("".join(shared.itertext()).split())
    own = "".join((code.text or "").split())
    return own + own in text
