"""Blocks: the page cut into the pieces that are kept or left out, each an element of its own.

A block is a paragraph, a heading, a list of plain items, a table of data, a formula or code that stands alone, or text
between other blocks (wrapped in an element `RUN`, also where two line breaks end a paragraph). What holds blocks is a
box; the boxes form a tree with the page's body as its root.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, DROPPED, FORMULA, clean
from megatron_mimo.data.extract.tables import is_data_table
from megatron_mimo.data.extract.words import words

RUN = "x-run"
"""An element around text that stood between blocks."""

_BLOCK_TAGS = words(
    """
    html body main article section aside header footer nav div p form fieldset legend figure figcaption address details
    summary dl dt dd table thead tbody tfoot tr td th caption center hr hgroup search frameset x-new ul ol li menu dir
    h1 h2 h3 h4 h5 h6 blockquote pre noscript
    """
)
_LISTS = frozenset(("ul", "ol", "menu", "dir"))
_NO_PLAIN_ITEM = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "table", "article", "section", "form", "dl", "figure"))
_MAX_PARAGRAPHS_OF_ITEM = 2


@dataclass(slots=True)
class Box:
    """An element that holds blocks; `parent` is its box's place in the list, -1 for the root."""

    element: etree._Element
    parent: int
    depth: int


@dataclass(slots=True)
class Block:
    """A piece of the page. Sizes are in characters of `text`, in which white space is collapsed."""

    element: etree._Element
    box: int
    text: str
    link_characters: int = 0
    num_links: int = 0
    num_items: int = 0
    """Items of a list, rows of a table."""
    num_formulas: int = 0
    num_code: int = 0
    """Code blocks and inline code."""
    atom_characters: int = 0
    num_images: int = 0


@dataclass(slots=True)
class Blocks:
    """A page's blocks in its order, and its boxes: parents come before their children."""

    blocks: list[Block] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


def find_blocks(body: etree._Element) -> Blocks:
    """Cut the page; text between blocks is wrapped in place."""
    found = Blocks()
    _Cutter(found, _opened(body)).box(body, -1, 0)
    return found


def _opened(body: etree._Element) -> set[etree._Element]:
    """Inline elements that hold blocks: boxes as well."""
    opened: set[etree._Element] = set()
    for element in body.iter(*_BLOCK_TAGS):
        parent = element.getparent()
        while parent is not None and parent.tag not in _BLOCK_TAGS and parent not in opened:
            opened.add(parent)
            parent = parent.getparent()
    for atom in body.iter(CODE, FORMULA):
        if atom.tag == CODE or atom.get("display"):
            parent = atom.getparent()
            while parent is not None and parent.tag not in _BLOCK_TAGS and parent not in opened:
                opened.add(parent)
                parent = parent.getparent()
    return opened


class _Cutter:
    """One walk from the body down."""

    def __init__(self, found: Blocks, opened: set[etree._Element]) -> None:
        self.found = found
        self.opened = opened

    def box(self, element: etree._Element, parent: int, depth: int) -> None:
        """Cut what is in a box."""
        number = len(self.found.boxes)
        self.found.boxes.append(Box(element, parent, depth))
        runs: list[_Run] = []
        run = _Run(None, element.text)
        for child in element:
            if not isinstance(child.tag, str) or child.tag == DROPPED or not self._is_apart(child):
                if child.tag == "br" and _is_paragraph_end(child):
                    runs.append(run)
                    run = _Run(child, None)
                run.nodes.append(child)
                continue
            runs.append(run)
            runs.append(_Run(child, None, is_apart=True))
            run = _Run(child, child.tail)
        runs.append(run)
        self._take(element, number, depth, [run for run in runs if run.is_apart or run.has_text()])

    def _is_apart(self, element: etree._Element) -> bool:
        tag = element.tag
        return (
            tag in _BLOCK_TAGS
            or tag == CODE
            or (tag == FORMULA and bool(element.get("display")))
            or element in self.opened
        )

    def _take(self, element: etree._Element, number: int, depth: int, runs: "list[_Run]") -> None:
        if len(runs) == 1 and not runs[0].is_apart:
            self._block(element, number)
            return
        for run in runs:
            if not run.is_apart:
                self._block(run.wrap(element), number)
            elif run.after is not None:
                self._child(run.after, number, depth)

    def _child(self, element: etree._Element, number: int, depth: int) -> None:
        tag = element.tag
        if tag in (CODE, FORMULA):
            self._block(element, number)
        elif tag in _LISTS and _is_plain_list(element):
            self._block(element, number, len(element))
        elif tag == "table" and is_data_table(element):
            self._block(element, number, sum(1 for _ in element.iter("tr")))
        elif tag in ("h1", "h2", "h3", "h4", "h5", "h6") or (len(element) == 0 and element.text):
            self._block(element, number)
        else:
            self.box(element, number, depth + 1)

    def _block(self, element: etree._Element, number: int, num_items: int = 0) -> None:
        block = Block(element, number, "", num_items=num_items)
        if element.tag in (CODE, FORMULA):
            _add_atom(block, element)
            block.text = " ".join((element.text or "").split())
            self.found.blocks.append(block)
            return
        is_broken = bool(num_items) or next(element.iter("br", "td", "li"), None) is not None
        text = " ".join((" " if is_broken else "").join(element.itertext()).split())
        block.text = text
        if len(element):
            _count(block, element)
        if text or block.atom_characters:
            self.found.blocks.append(block)


def _add_atom(block: Block, atom: etree._Element) -> None:
    if atom.tag == FORMULA:
        block.num_formulas += 1
    else:
        block.num_code += 1
    block.atom_characters += len(atom.text or "")


def _count(block: Block, element: etree._Element) -> None:
    for node in element.iter("a", "img", "code", "tt", "kbd", "samp", CODE, FORMULA):
        tag = node.tag
        if tag == "a":
            if node.get("href") is not None:
                block.num_links += 1
                block.link_characters += len("".join(node.itertext()).strip())
        elif tag == "img":
            block.num_images += 1
        elif tag in (CODE, FORMULA):
            _add_atom(block, node)
        else:
            block.num_code += 1


def _is_paragraph_end(line_break: etree._Element) -> bool:
    """Whether a second `<br>` comes right before this one."""
    previous = line_break.getprevious()
    return previous is not None and previous.tag == "br" and not (previous.tail or "").strip()


def _is_plain_list(element: etree._Element) -> bool:
    """Whether all items are lines of text, with short lists inside at most."""
    paragraphs = 0
    items = 0
    for node in element.iterdescendants():
        tag = node.tag
        if tag == "li":
            items += 1
        elif tag in _NO_PLAIN_ITEM:
            return False
        elif tag in ("p", "div"):
            paragraphs += 1
    return items > 0 and paragraphs <= _MAX_PARAGRAPHS_OF_ITEM * items


@dataclass(slots=True)
class _Run:
    """Text and inline elements in a row; `after` is the element whose tail it starts with, None at the start."""

    after: etree._Element | None
    text: str | None
    is_apart: bool = False
    nodes: list[etree._Element] = field(default_factory=list)

    def has_text(self) -> bool:
        if self.text and not self.text.isspace():
            return True
        return any(_has_text(node) for node in self.nodes)

    def wrap(self, parent: etree._Element) -> etree._Element:
        """Move the run into an element of its own."""
        wrapper = etree.Element(RUN)
        if self.text is not None:
            wrapper.text = clean(self.text)
            if self.after is None:
                parent.text = None
            else:
                self.after.tail = None
        if self.nodes:
            self.nodes[0].addprevious(wrapper)
            wrapper.extend(self.nodes)
        elif self.after is None:
            parent.insert(0, wrapper)
        else:
            self.after.addnext(wrapper)
        return wrapper


def _has_text(node: etree._Element) -> bool:
    tail = node.tail
    if tail and not tail.isspace():
        return True
    if not isinstance(node.tag, str) or node.tag == DROPPED:
        return False
    return any(not text.isspace() for text in node.itertext())


def ancestors(boxes: list[Box], number: int) -> Iterator[int]:
    """The box and the boxes around it, from inside out."""
    while number >= 0:
        yield number
        number = boxes[number].parent
