"""Labels around a code block: its language's name, "Code:", "Select all", "Copy"."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.code_language import is_language
from megatron_mimo.data.extract.dom import CODE, DROPPED, drop, text_of

_LABEL = re.compile(
    r"(?ix)(?:(?:php\s|html\s|source\s|sample\s)?code:?|quote:?|plain\stext|view\splain|raw|(?:\[?(?:select(?:\sall)?|expand|copy(?:\s(?:to\sclipboard|code))?|copied!?|collapse|download|print|\?|run|edit|wrap|open\sin\s\w+|explain|复制(?:代码)?|代码(?:如下)?|运行|收起|展开)\]?[\s:|]*)+"
    r"|(?:php\s|html\s)?code:?\s*\[?(?:select(?:\sall)?|copy|expand|download)\]?)\W*"
)
_CONTENT = frozenset((CODE, DROPPED, "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol"))
_MAX_CHARACTERS = 40
_LEVELS = 3


def drop_labels(code: etree._Element) -> None:
    """Drop short labels right before and after a code block, also outside the boxes that hold nothing but it."""
    node = code
    for _ in range(_LEVELS):
        for neighbour in (node.getprevious(), node.getnext()):
            if neighbour is not None and _is_label(neighbour):
                drop(neighbour)
        parent = node.getparent()
        if parent is None or parent.tag in ("body", "article", "main", "li", "td") or _holds_more(parent, node):
            return
        node = parent


def _is_label(element: etree._Element) -> bool:
    if not isinstance(element.tag, str) or element.tag in _CONTENT or (element.tail or "").strip():
        return False
    text = " ".join(text_of(element).split())
    if not 0 < len(text) <= _MAX_CHARACTERS:
        return False
    words = text.split()
    is_named = is_language(words[0]) and (len(words) == 1 or bool(_LABEL.fullmatch(" ".join(words[1:]))))
    return (is_named and element.tag != "p") or bool(_LABEL.fullmatch(text))


def _holds_more(parent: etree._Element, node: etree._Element) -> bool:
    if (parent.text or "").strip() or (node.tail or "").strip():
        return True
    others = [child for child in parent if child is not node and child.tag != DROPPED]
    return any(text_of(child).strip() for child in others)
