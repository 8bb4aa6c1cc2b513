"""The writer: from the tree that is left to Markdown with TeX.

Text is never escaped: what reads as `a_b * c` on the page reads so in the output. Emphasis and link targets are left
out. Code blocks and display formulas start in column 0 wherever they stand, so that they are exact.
"""

import re
import unicodedata

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, DROPPED, FORMULA, class_names, drop, text_of
from megatron_mimo.data.extract.tables import is_data_table, write_table
from megatron_mimo.data.extract.words import words

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = words(
    """
    html body main article section aside header footer nav div p form fieldset legend figure figcaption address
    details summary dl dt dd table thead tbody tfoot tr td th caption center pre hr hgroup search frameset
    noscript x-new x-run
    """
)
_INLINE_CODE = frozenset(("code", "tt", "kbd", "samp"))
_BREAK = "\x01"
_SPACES = re.compile(r"[ \t\n\r\f\v\xa0\u2002-\u200a\u202f\u3000]+")
_BREAKS = re.compile(rf" ?{_BREAK}[ {_BREAK}]*")
_SOFT = re.compile("[\u00ad\u200b\ufeff\u2060]")
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_CJK_BREAK = re.compile(rf"(?<=[{_CJK}])[ \t]*\n\s*(?=[{_CJK}])")
_ALONE = re.compile(r"\$([^$]+)\$\s*([.,;:]?)")
_TRIPLE_DOLLARS = re.compile(r"(?<!\$)(?:\$\$\$|\$\$\$\$\$\$)(?!\$)")
"""Codeforces writes `$$$x$$$` where others write `$x$`."""
_ANCHOR_SIGNS = frozenset(("¶", "#", "§", "🔗", "", "⌗", "\uf0c1", "​", "[edit]", "Permalink"))
_ANCHOR_CLASSES = words(
    """
    headerlink header-anchor anchor-link hash-link anchorjs-link heading-anchor heading-link anchor
    headeranchor-link toc-anchor direct-link
    """
)  # fmt: skip
_ORDINALS = words("st nd rd th TM tm ® ™ © er e o a")
_REFERENCE = re.compile(r"\[?\s*(?:\d+|[a-z]|note \d+|citation needed)\s*\]?")


def to_markdown(element: etree._Element) -> str:
    """The Markdown of an element and everything in it."""
    writer = _Writer()
    writer.element(element)
    writer.flush()
    return writer.result()


def block_texts(element: etree._Element) -> list[str]:
    """The same as blocks; list items that follow each other are one block."""
    writer = _Writer()
    writer.element(element)
    writer.flush()
    blocks: list[str] = []
    for block in writer.blocks:
        if block.startswith("\n\n") or not blocks:
            blocks.append(block.removeprefix("\n\n"))
        else:
            blocks[-1] += block
    return blocks


def inline_markdown(element: etree._Element) -> str:
    """The same on one line, for headings and table cells."""
    writer = _Writer(is_flat=True)
    writer.children(element)
    return writer.line()


class _Writer:
    """Collects inline text until a block ends, then writes it as one block."""

    def __init__(self, is_flat: bool = False) -> None:
        self.is_flat = is_flat
        self.blocks: list[str] = []
        self.inline: list[str] = []
        self.formulas = 0
        self.indent = ""
        self.quote = ""
        self.marker = ""
        self.is_tight = False

    def result(self) -> str:
        return "".join(self.blocks).strip("\n")

    def line(self) -> str:
        """What was collected, as one line."""
        text = _tidy("".join(self.inline))
        self.inline.clear()
        self.formulas = 0
        return _SPACES.sub(" ", text.replace("\n", " ")).strip()

    def flush(self) -> None:
        """End the paragraph."""
        if not self.inline:
            return
        if self.is_flat:
            self.inline.append(" ")
            return
        formulas, self.formulas = self.formulas, 0
        text = _tidy("".join(self.inline))
        self.inline.clear()
        if not text:
            return
        alone = _ALONE.fullmatch(text) if formulas == 1 and not self.marker else None
        if alone:
            self.block(f"$${alone.group(1)}$${alone.group(2)}")
            return
        self._paragraph(text)

    def _paragraph(self, text: str) -> None:
        first = self.quote + self.indent[: len(self.indent) - len(self.marker)] + self.marker
        rest = self.quote + self.indent
        is_item = bool(self.marker)
        self.marker = ""
        lines = text.split("\n")
        body = "\n".join([first + lines[0], *(rest + line for line in lines[1:])])
        self.block(body, is_tight=is_item and self.is_tight)
        self.is_tight = is_item

    def block(self, text: str, is_tight: bool = False) -> None:
        """Write one block; list items that follow each other are not set apart by a blank line."""
        self.is_tight = False
        self.blocks.append(("\n" if is_tight else "\n\n") + text)

    def children(self, element: etree._Element) -> None:
        if element.text:
            self.inline.append(element.text)
        for child in element:
            self.element(child)
            if child.tail:
                self.inline.append(child.tail)

    def element(self, element: etree._Element) -> None:
        tag = element.tag
        if not isinstance(tag, str) or tag == DROPPED:
            return
        special = _SPECIAL.get(tag)
        if special is not None:
            special(self, element)
        elif tag in _BLOCKS:
            self.flush()
            self.children(element)
            self.flush()
        else:
            self.children(element)

    def formula(self, element: etree._Element) -> None:
        tex, number = element.text or "", element.get("number", "")
        if self.is_flat or not element.get("display"):
            self.inline.append(f"${tex}$" + (f" {number}" if number else ""))
            self.formulas += 1
            return
        self.flush()
        self.block(f"$${tex}$$" + (f" {number}" if number else ""))

    def code_block(self, element: etree._Element) -> None:
        code = element.text or ""
        if self.is_flat:
            self.inline.append(_inline_code(code))
            return
        self.flush()
        self.marker = ""
        fence = "```"
        while fence in code:
            fence += "`"
        self.block(f"{fence}{element.get('language', '')}\n{code}\n{fence}")

    def inline_code(self, element: etree._Element) -> None:
        if next(element.iter(FORMULA, CODE), None) is not None:
            self.children(element)
        else:
            for link in element.iter("a"):
                if not _ANCHOR_CLASSES.isdisjoint(class_names(link)):
                    drop(link)
            self.inline.append(_inline_code(text_of(element)))

    def line_break(self, element: etree._Element) -> None:
        self.inline.append(_BREAK)
        if element.text or len(element):
            self.children(element)

    def heading(self, element: etree._Element) -> None:
        self.flush()
        text = inline_markdown(element)
        if self.is_flat:
            self.inline.append(f" {text} ")
        elif text:
            self.marker = ""
            self.block("#" * _HEADINGS[element.tag] + " " + text)

    def link(self, element: etree._Element) -> None:
        if not _ANCHOR_CLASSES.isdisjoint(class_names(element)) or "aria-hidden" in element.attrib:
            if text_of(element).strip() in _ANCHOR_SIGNS or len(text_of(element)) <= 2:
                return
        elif text_of(element).strip() in ("¶", "§", "🔗", "\uf0c1"):
            return
        self.children(element)

    def script(self, element: etree._Element) -> None:
        """`<sup>` and `<sub>` outside mathematics: `x^2`, `H_2O`, `e^{-x}`; ordinals plain, citation marks dropped."""
        text = inline_markdown(element)
        sign = "^" if element.tag == "sup" else "_"
        if not text or "reference" in class_names(element):
            return
        if text in _ORDINALS or (sign == "^" and set(text) <= set("*†‡")):
            self.inline.append(text)
        elif sign == "^" and element.find(".//a") is not None and _REFERENCE.fullmatch(text):
            self.inline.append(text if text.startswith("[") else f"[{text}]")
        else:
            self.inline.append(sign + (text if text.isalnum() else f"{{{text}}}"))

    def struck(self, element: etree._Element) -> None:
        """`<del>` and `<s>`: `~~10~~`, unless whole blocks are struck."""
        if next(element.iter(*_BLOCKS), None) is not None:
            self.children(element)
            return
        text = inline_markdown(element)
        if text:
            self.inline.append(f"~~{text}~~")

    def quotation(self, element: etree._Element) -> None:
        self.inline.append("“")
        self.children(element)
        self.inline.append("”")

    def term(self, element: etree._Element) -> None:
        """`<dt>`: the signature of a documented function is code."""
        self.flush()
        if "sig" in class_names(element) and not self.is_flat:
            self.inline_code(element)
        else:
            self.children(element)
        self.flush()

    def list(self, element: etree._Element) -> None:
        if self.is_flat:
            self.inline.append(f" {'; '.join(filter(None, map(inline_markdown, element)))} ")
            return
        self.flush()
        if not self.indent:
            self.is_tight = False
        start = element.get("start", "1")
        number = int(start) if start.isdecimal() and len(start) < 7 else 1
        for child in element:
            if child.tag == "li":
                self.item(child, f"{number}. " if element.tag == "ol" else "- ")
                number += 1
            else:
                self.element(child)
            if child.tail and child.tail.strip():
                self.inline.append(child.tail)
        self.flush()

    def item(self, element: etree._Element, marker: str) -> None:
        self.flush()
        if next(element.iterdescendants(*_HEADINGS), None) is not None:
            self.children(element)  # a list that lays sections out
            self.flush()
            return
        outer = self.indent
        self.marker = marker
        self.indent = outer + " " * len(marker)
        self.children(element)
        self.flush()
        self.indent, self.marker = outer, ""

    def lone_item(self, element: etree._Element) -> None:
        self.item(element, "- ")

    def block_quote(self, element: etree._Element) -> None:
        self.flush()
        outer, self.quote = self.quote, self.quote + "> "
        self.children(element)
        self.flush()
        self.quote = outer

    def table(self, element: etree._Element) -> None:
        self.flush()
        if self.is_flat or not is_data_table(element):
            self.children(element)
            self.flush()
            return
        caption = element.find("caption")
        if caption is not None:
            self.children(caption)
            self.flush()
        table = write_table(element, inline_markdown)
        if table:
            self.marker = ""
            self.block(table)


def _tidy(text: str) -> str:
    """Collapse white space, compose characters (NFC); `<br>` becomes a line break, two of them a blank line."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", _CJK_BREAK.sub("", _SOFT.sub("", text)))
    text = _SPACES.sub(" ", text).strip()
    if "$$$" in text:
        text = _TRIPLE_DOLLARS.sub(lambda match: "$$" if len(match.group()) == 6 else "$", text)
    if _BREAK not in text:
        return text
    return _BREAKS.sub(lambda match: "\n\n" if match.group().count(_BREAK) > 1 else "\n", text).strip()


def _inline_code(text: str) -> str:
    text = _SPACES.sub(" ", text).strip()
    if not text:
        return ""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


_SPECIAL = {
    FORMULA: _Writer.formula,
    CODE: _Writer.code_block,
    "br": _Writer.line_break,
    "a": _Writer.link,
    "sup": _Writer.script,
    "sub": _Writer.script,
    "q": _Writer.quotation,
    **dict.fromkeys(("del", "s", "strike"), _Writer.struck),
    "ul": _Writer.list,
    "ol": _Writer.list,
    "li": _Writer.lone_item,
    "dt": _Writer.term,
    "blockquote": _Writer.block_quote,
    "table": _Writer.table,
    **dict.fromkeys(_INLINE_CODE, _Writer.inline_code),
    **dict.fromkeys(_HEADINGS, _Writer.heading),
}
