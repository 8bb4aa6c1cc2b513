"""How much text, links, formulas and code every part of a page holds: one pass from the leaves up."""

from typing import NamedTuple

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, DROPPED, FORMULA
from megatron_mimo.data.extract.words import words

_ATOM_WEIGHT = 40
_BLOCKS = words("p div li tr section h1 h2 h3 h4 h5 h6 blockquote dd dt article")


class Size(NamedTuple):
    """What is inside one element; characters without white space at the ends of text nodes."""

    text: int
    links: int
    """Characters of `text` inside links."""
    num_links: int
    atoms: int
    """Formulas and code blocks."""
    atom_characters: int
    blocks: int

    @property
    def weight(self) -> int:
        """Characters that are matter rather than links."""
        return self.text - self.links + min(self.atoms * _ATOM_WEIGHT, self.atom_characters + self.atoms * 10)


_new = tuple.__new__


def measure(root: etree._Element) -> dict[etree._Element, Size]:
    """The size of `root` and of every element in it."""
    sizes: dict[etree._Element, Size] = {}
    _measure(root, sizes)
    return sizes


def subtract(sizes: dict[etree._Element, Size], element: etree._Element) -> None:
    """Keep the sizes right when an element and all in it leave the page."""
    gone = sizes[element]
    for node in element.iter():
        sizes.pop(node, None)
    for node in element.iterancestors():
        size = sizes.get(node)
        if size is None:
            return
        sizes[node] = Size(*(whole - part for whole, part in zip(size, gone, strict=True)))


def _measure(element: etree._Element, sizes: dict[etree._Element, Size]) -> Size:
    tag = element.tag
    own = element.text
    text = len(own.strip()) if own else 0
    if tag in (FORMULA, CODE):
        size = sizes[element] = Size(0, 0, 0, 1, text, 0)
        return size
    links = num_links = atoms = atom_characters = 0
    blocks = 1 if tag in _BLOCKS else 0
    for child in element:
        if child.tag != DROPPED and isinstance(child.tag, str):
            inner = _measure(child, sizes)
            text += inner[0]
            links += inner[1]
            num_links += inner[2]
            atoms += inner[3]
            atom_characters += inner[4]
            blocks += inner[5]
        own = child.tail
        if own:
            text += len(own.strip())
    if tag == "a" and element.get("href") is not None:
        links, num_links = text, 1
    size = sizes[element] = _new(Size, (text, links, num_links, atoms, atom_characters, blocks))
    return size
