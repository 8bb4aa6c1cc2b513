"""The parsed page: a thin layer over lxml, and the marks ("atoms") that later steps take as they are.

A formula or a code block becomes one childless element before anything else looks at the page. What follows, the
removal of boilerplate and the writer, never sees the dozens of spans a page draws it with.
"""

import re
from collections.abc import Iterator

import lxml.etree as etree

FORMULA = "x-formula"
"""Atom: text is TeX; attribute `display` is set for a display formula, `tag` holds an equation number."""
CODE = "x-code"
"""Atom: text is a code block, exact; attribute `language` may be empty."""
DROPPED = "x-dropped"
"""An element that left the page; only its tail counts. Attribute `was` is set for what a reader clicks or fills in."""

_FIELDS = frozenset(("button", "input", "select", "textarea"))
_MAX_DEPTH = 200
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CLASSES = etree.XPath("descendant-or-self::*/@class", smart_strings=False)
_IDS = etree.XPath("descendant-or-self::*/@id", smart_strings=False)
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r") + b"\x7f"
_IS_DEEP = etree.XPath(f"boolean({'/*' * (_MAX_DEPTH + 1)})")


def parse(html: str) -> etree._Element | None:
    """The tree of a page, at most `_MAX_DEPTH` deep (deeper text is kept, flat); None when there is nothing in it.

    libxml2 is used rather than a strict HTML5 parser: walking its tree from Python is 20 times as fast, and the pages'
    text comes out the same. It gives up below 2 048 open elements: the text after a nesting bomb is lost.
    """
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = etree.fromstring(html.encode("utf-8", "replace").translate(None, _CONTROLS), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    if root is not None and _IS_DEEP(root):
        _flatten(root)
    return root


def _flatten(root: etree._Element) -> None:
    """Replace what lies below the maximum depth by its text."""
    level = list(root)
    for _ in range(_MAX_DEPTH):
        if not level:
            return
        level = [child for element in level for child in element]
    for element in level:
        become(element, "span", text_of(element))


def clean(text: str) -> str:
    """The text without characters that a tree cannot hold."""
    return _FORBIDDEN.sub("", text)


def become(element: etree._Element, tag: str, text: str = "", **attributes: str) -> None:
    """Turn an element into a childless one; what follows it stays."""
    text = clean(text)
    element.clear(keep_tail=True)
    element.tag = tag
    element.text = text
    for name, value in attributes.items():
        element.set(name, clean(value))


def drop(element: etree._Element) -> None:
    """Take an element out of the page; what follows it stays."""
    tag = element.tag
    element.clear(keep_tail=True)
    element.tag = DROPPED
    if tag in _FIELDS:
        element.set("was", tag)


def is_drawn(element: etree._Element) -> bool:
    """False for elements that left the page, and for parser internals such as entities."""
    return isinstance(element.tag, str) and element.tag != DROPPED


def text_of(element: etree._Element) -> str:
    """All text inside an element."""
    return "".join(element.itertext())


def class_names(element: etree._Element) -> list[str]:
    """The element's classes."""
    value = element.get("class")
    return value.split() if value else []


def all_classes(root: etree._Element) -> set[str]:
    """Every class on the page: asked first, it saves most searches a walk."""
    return set(" ".join(_CLASSES(root)).split())  # type: ignore[arg-type]


def all_ids(root: etree._Element) -> set[str]:
    """Every id on the page."""
    return set(_IDS(root))  # type: ignore[arg-type]


def has_class(element: etree._Element, names: frozenset[str] | set[str]) -> bool:
    """Whether the element has one of the classes."""
    value = element.get("class")
    return value is not None and not names.isdisjoint(value.split())


def descendants(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """Descendants that have one of the classes, in document order."""
    wanted = frozenset(names)
    for child in element.iterdescendants():
        if has_class(child, wanted):
            yield child


def first(element: etree._Element, *names: str) -> etree._Element | None:
    """The first descendant that has one of the classes."""
    return next(descendants(element, *names), None)
