"""Main content: take the frame of the page away, never its mathematics or code.

The order is: the container that a known site or the standard (`<main>`, `<article>`) names; parts that
their element, role, class or id calls navigation; parts that are mostly links; short texts that only frames use. A rule
that would take most of the page is ignored: names lie, and losing an article is worse than keeping a menu.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import lxml.etree as etree

from megatron_mimo.data.extract.containers import known_container, narrow, standard_container
from megatron_mimo.data.extract.dom import CODE, DROPPED, FORMULA, drop, text_of
from megatron_mimo.data.extract.hints import frame_strength, is_boilerplate_heading, is_boilerplate_phrase
from megatron_mimo.data.extract.sizes import Size, measure, subtract
from megatron_mimo.data.extract.words import words

_FRAME_ROLES = words(
    """
    tree navigation banner contentinfo search complementary dialog alertdialog menu menubar toolbar tablist status
    tooltip
    """
)  # fmt: skip
_HEADINGS = words("h1 h2 h3 h4 h5 h6")
_NEVER_FRAME = _HEADINGS | {"dt", "dd"}
_INLINE = words("span a b i em strong small time abbr cite label q u font code mark big bdi s del ins sub sup")
_NOTES = re.compile(
    r"footnote|endnote|callout|admonition|note|tip|warning|example|topic|info|aside-content|box", re.IGNORECASE
)
_LINK_LISTS = words(
    """
    ul ol div section table p dl span form fieldset center td tbody tr aside header li figure
    """
)
_LEAVES = words(
    """
    p div span li td section small em strong center h1 h2 h3 h4 h5 h6 dt dd time address label a b i form figure
    header summary details
    """
)  # fmt: skip
_BLOCK_LEAVES = words("p div li td section center figure header")
_INLINE_LEAVES = words("span small em strong a b i label time")


class _Limits(NamedTuple):
    """When a rule may take a part of the page."""

    most_of_page: float = 0.5
    link_share: float = 0.66
    link_block_characters: int = 1500
    weak_characters: int = 200


_LIMITS = _Limits()


def main_content(body: etree._Element) -> etree._Element:
    """The element that holds the page's matter; the frame inside it is dropped in place."""
    sizes = measure(body)
    prune(body, sizes)
    found = known_container(body, sizes)
    return narrow(found if found is not None else standard_container(body, sizes), sizes)


def prune(root: etree._Element, sizes: dict[etree._Element, Size]) -> None:
    """Drop the parts of `root` that belong to the frame."""
    whole = max(sizes[root].weight, 1)
    pending = [root]
    while pending:
        parent = pending.pop()
        for child in list(parent):
            size = sizes.get(child)
            if size is None or child.tag in (FORMULA, CODE, DROPPED):
                continue
            if _is_frame(child, sizes, whole):
                _leave_out(child, sizes)
            elif child.tag in _HEADINGS and is_boilerplate_heading(_short_text(child, size)):
                _drop_section(child, sizes, whole)
            elif len(child):
                pending.append(child)


def _is_frame(element: etree._Element, sizes: dict[etree._Element, Size], whole: int) -> bool:
    size = sizes[element]
    tag = element.tag
    if size.weight > _LIMITS.most_of_page * whole and size.weight > 200:
        return False
    if _is_named_frame(element, tag, size):
        return not (size.atoms and not _mostly_links(size) and size.text > 3 * size.atoms and _is_rich(size))
    if tag in _LINK_LISTS and _is_link_block(tag, size):
        return True
    return _is_phrase(element, tag, size, sizes)


def _is_rich(size: Size) -> bool:
    """Enough mathematics or code to be matter whatever the name says."""
    return size.atoms >= 2 or size.atom_characters > 40


def _mostly_links(size: Size) -> bool:
    return size.links > 0.4 * max(size.text, 1)


def _is_named_frame(element: etree._Element, tag: str, size: Size) -> bool:
    if tag == "nav" or tag == "address":
        return True
    if tag == "footer":
        return not _contains_notes(element)
    if tag == "aside":
        return not _NOTES.search(
            f"{element.get('class', '')} {element.get('id', '')} {element.get('role', '')}"
        ) or _mostly_links(size)
    if element.get("role") in _FRAME_ROLES:
        return tag not in _HEADINGS
    if tag == "form" and size.text < 300 and not size.atoms:
        return True
    if tag in _NEVER_FRAME or (tag in _INLINE and not _stands_apart(element)):
        return False
    names = element.get("class"), element.get("id")
    if not any(names):
        return False
    strength = frame_strength(" ".join(name[:200] for name in names if name))
    if strength == 0 or _has_title(element, size):
        return False
    return strength == 2 or _mostly_links(size) or (size.text <= _LIMITS.weak_characters and tag not in ("table", "p"))


def _stands_apart(element: etree._Element) -> bool:
    """Whether no text touches an inline element: a part of a sentence is no part of the frame."""
    previous, parent = element.getprevious(), element.getparent()
    before = previous.tail if previous is not None else parent.text if parent is not None else ""
    return not (before or "").strip() and not (element.tail or "").strip()


def _contains_notes(element: etree._Element) -> bool:
    names = (
        f"{node.get('class', '')} {node.get('id', '')}" for node in element.iter("footer", "ol", "section", "div", "li")
    )
    return any("footnote" in name or "endnote" in name for name in names)


def _has_title(element: etree._Element, size: Size) -> bool:
    """A part with the page's own heading in it is looked into, not dropped."""
    return size.links < 0.5 * max(size.text, 1) and next(element.iter("h1"), None) is not None


def _is_link_block(tag: str, size: Size) -> bool:
    if size.atoms or size.num_links < 2 or size.text > _LIMITS.link_block_characters:
        return False
    if size.num_links == 2:
        return size.text < 150 and size.links >= 0.8 * size.text and tag != "p"
    if tag == "td" and size.text < 400 and size.links > 0.5 * size.text:
        return True
    return size.links >= _LIMITS.link_share * size.text and size.text < 60 * size.num_links


def _short_text(element: etree._Element, size: Size) -> str:
    return " ".join(text_of(element).split()) if size.text <= 300 else ""


def _is_phrase(element: etree._Element, tag: str, size: Size, sizes: dict[etree._Element, Size]) -> bool:
    if tag not in _LEAVES or size.atoms or not 0 < size.text <= 240:
        return False
    if any(child in sizes and sizes[child].text == size.text and child.tag in _BLOCK_LEAVES for child in element):
        return False  # the child is asked in its turn
    if tag in _INLINE_LEAVES and not _stands_alone(element):
        return False
    if size.blocks > 4:
        return False
    return is_boilerplate_phrase(_short_text(element, size))


def _stands_alone(element: etree._Element) -> bool:
    """Whether an inline element is its parent's line of its own rather than part of a sentence."""
    previous, parent = element.getprevious(), element.getparent()
    before = (
        parent.text if previous is None and parent is not None else previous.tail if previous is not None else ""
    ) or ""
    return (
        not before.strip()
        and not (element.tail or "").strip()
        and (parent is None or parent.tag not in ("p", "li", "td", "dd"))
    )


def _following(heading: etree._Element) -> Iterator[etree._Element]:
    for node in heading.itersiblings():
        if node.tag in _HEADINGS and node.tag <= heading.tag:
            return
        yield node


def _drop_section(heading: etree._Element, sizes: dict[etree._Element, Size], whole: int) -> None:
    """Drop a heading of the frame and the links below it; prose below it stays."""
    followers = [node for node in _following(heading) if node in sizes and node.tag != DROPPED]
    total = sum(sizes[node].weight for node in followers)
    _leave_out(heading, sizes)
    for node in followers if total < 0.3 * whole else []:
        size = sizes[node]
        if not size.atoms and (_mostly_links(size) or size.text < 300):
            _leave_out(node, sizes)


def _leave_out(element: etree._Element, sizes: dict[etree._Element, Size]) -> None:
    subtract(sizes, element)
    drop(element)
