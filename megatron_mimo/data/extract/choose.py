"""Which blocks stay: the model's word, and what the page's structure demands of it.

The structure has the last word where the model cannot know better: code and formulas stay with the text around them, a
heading stays or goes with what it heads, a `<dt>` with its `<dd>`, and everything inside the body of a known
documentation generator stays. A page on which hardly anything would be left is judged anew with a lower bar.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import lxml.etree as etree
import numpy as np

from megatron_mimo.data.extract.block_names import NameWeights
from megatron_mimo.data.extract.blocks import RUN, Block, Blocks
from megatron_mimo.data.extract.dom import CODE, FORMULA
from megatron_mimo.data.extract.frame_names import FRAME_NAMES
from megatron_mimo.data.extract.head import Head
from megatron_mimo.data.extract.names import names_of
from megatron_mimo.data.extract.sentences import SENTENCE_END
from megatron_mimo.data.extract.words import words

Favor = Literal["precision", "recall", "balanced"]
_BARS = {"precision": 1.0, "balanced": 0.0, "recall": -1.5}
"""The least logit of a block that stays."""
FAVORS = tuple(_BARS)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_FRAME_TAGS = frozenset(("nav", "footer", "aside", "address"))
_FRAME_ROLES = words(
    "navigation banner contentinfo search complementary dialog alertdialog menu menubar toolbar tablist tree status"
    " alert"
)
_NOT_PRINTED = words(
    """
    noprint no-print d-print-none hidden-print print-hidden navigation-not-searchable ambox md-source-file
    navheader navfooter navpath nav-panel
    """
)
"""Classes by which programs say themselves that something is no part of the document: not printed, not indexed, or the
way to its neighbours (DocBook, Doxygen, Texinfo)."""
_FRAME_COST = 2.5
_MANUAL_GAIN = 8.0
_GENERATED_GAIN = 4.0
_FEW_BLOCKS = 16
_SOME_BLOCKS = 40
_SMALL_PAGE_GAIN = 8.0
_SMALL_PAGE_COST = 4.8
_SHORT_CHARACTERS = 200
_MOST_SHARE_OF_FRAME = 0.3
"""A box with a greater share of the small page's sentences is not taken for frame by its name."""
_COPYRIGHT = re.compile(r"\W{0,3}(?:©|\(c\)\s*\d{4})")
_COPYRIGHT_COST = 12.0
_LOW_NAME = -0.95
"""A box in generated documentation, or on a small page, whose names weigh less than this is its frame."""
_DOUBTED_NAME = -0.5
"""A name of `FRAME_NAMES` is taken at its word unless the training pages gave it more than this."""
_GENERATORS = re.compile(
    r"(?i)\b(?:sphinx|docutils|docbook|asciidoc(?:tor)?|doxygen|javadoc|rustdoc|gi-docgen|gtk-doc|makeinfo|texi2html|pandoc|latexml"
    r"|latex2html|tex4ht|mkdocs|docusaurus|vitepress|mdbook|bookdown|quarto|jsdoc|typedoc|yard|pdoc|ex_doc|haddock|docfx|groff|man2html)"
)
_ATOM_GAIN = 2.0
_MANUALS = words(
    """
    sphinx-content rst-content bodywrapper bd-article furo-container theme-doc-markdown md-content__inner
    ltx_document ltx_page_content mw-parser-output docblock rustdoc-main jp-Notebook border-box-sizing refentry sect1
    """
)
"""Classes of the body of a document, as generators write them."""
_FOLLOWING = etree.XPath("following::*")
_LEAST_SHARE = 0.2
_LEAST_CHARACTERS = 200
_STEPS = (-1.5, -3.0, -5.0)


@dataclass(slots=True)
class Verdict:
    """What becomes of a block, and why."""

    is_kept: bool
    reason: str
    logit: float


def choose(
    found: Blocks, logits: np.ndarray, head: Head, names: NameWeights, favor: Favor = "balanced"
) -> list[Verdict]:
    """One verdict a block."""
    trust = _trust(found, bool(_GENERATORS.search(head.names.get("generator", ""))), names)
    base = [-_FRAME_COST if _is_frame(block.element) else trust[block.box] for block in found.blocks]
    sure = [own + gain for own, gain in zip(base, _small_page(found, base, names), strict=True)]
    for at in range(len(sure)):
        if _is_copyright(at, found.blocks):
            sure[at] -= _COPYRIGHT_COST
    scores = logits + np.array(sure, np.float32)
    bar = _BARS[favor]
    kept = scores > bar
    reasons = ["model"] * len(scores)
    for step in _STEPS:
        if not _is_too_little(found.blocks, kept):
            break
        kept = scores > bar + step
        reasons = ["lower bar: little was left"] * len(scores)
    verdicts = [
        Verdict(
            bool(keep),
            reason if gain == 0 else ("inside a document or small page" if gain > 0 else "frame by element or name"),
            float(score),
        )
        for keep, reason, gain, score in zip(kept, reasons, sure, scores, strict=True)
    ]
    _keep_atoms(found.blocks, verdicts)
    _join_terms(found.blocks, verdicts)
    _judge_headings(found.blocks, verdicts, [gain == _MANUAL_GAIN for gain in base])
    return verdicts


def _trust(found: Blocks, is_generated: bool, names: NameWeights) -> list[float]:
    """What is added to the logits of a box's blocks: a gain inside documents, a cost in frame elements."""
    result: list[float] = []
    for box in found.boxes:
        above = result[box.parent] if box.parent >= 0 else (_GENERATED_GAIN if is_generated else 0.0)
        if _is_frame(box.element) or (above == _MANUAL_GAIN and box.element.tag == "form"):
            above = -_FRAME_COST
        elif (0 <= above < _MANUAL_GAIN and _is_manual(box.element)) or (is_generated and _is_main(box.element)):
            above = _MANUAL_GAIN
        elif above == _GENERATED_GAIN and _lowest(box.element, names) < _LOW_NAME:
            above = 0.0
        result.append(above)
    return result


def _small_page(found: Blocks, base: list[float], names: NameWeights) -> list[float]:
    """What is added to a block on a page of a few blocks, of which the model knows little: all but sure frame stays."""
    size = len(found.blocks)
    if size >= _SOME_BLOCKS:
        return [0.0] * size
    prose = _prose_of_boxes(found)
    most = min(_SHORT_CHARACTERS, _MOST_SHARE_OF_FRAME * prose[0])  # names of long texts lie
    lowest: list[float] = []
    for box, characters in zip(found.boxes, prose, strict=True):
        above = lowest[box.parent] if box.parent >= 0 else 0.0
        own = _lowest(box.element, names) if characters <= most else 0.0
        lowest.append(min(above, own))
    gains = []
    last = _first_below_rule(found)
    for at, (block, trust) in enumerate(zip(found.blocks, base, strict=True)):
        own = _lowest(block.element, names) if block.element.tag != RUN else 0.0
        is_data = block.element.tag == "table" and not block.num_links
        is_frame = trust < 0 or (trust == 0 and not is_data and min(own, lowest[block.box]) < _LOW_NAME)
        is_links = block.link_characters > 0.5 * len(block.text)
        gain = _SMALL_PAGE_GAIN * max(0.0, 1 - size / _FEW_BLOCKS)
        cost = _SMALL_PAGE_COST * (1 - size / _SOME_BLOCKS)
        if not (is_frame or is_links or _is_beside_field(block.element)):
            gains.append(gain if at < last else 0.0)
        else:
            gains.append(-cost if len(block.text) < _SHORT_CHARACTERS and not _has_atoms(block) else 0.0)
    return gains


def _first_below_rule(found: Blocks) -> int:
    """The first of the page's last blocks, if short lines alone stand below its last `<hr>`; else their number."""
    size = len(found.blocks)
    rules = list(found.boxes[0].element.iter("hr"))
    if not rules:
        return size
    below = set(cast("list[etree._Element]", _FOLLOWING(rules[-1])))
    first = next((at for at, block in enumerate(found.blocks) if block.element in below), size)
    are_lines = all(
        len(block.text) < _SHORT_CHARACTERS and not _has_atoms(block) and block.element.tag not in _HEADINGS
        for block in found.blocks[first:]
    )
    return first if are_lines else size


def _has_atoms(block: Block) -> bool:
    """Whether a block holds code or formulas, TeX in its text included."""
    return bool(block.atom_characters) or "\\(" in block.text or "\\[" in block.text


def _prose_of_boxes(found: Blocks) -> list[int]:
    """Characters of sentences in every box."""
    sums = [0] * len(found.boxes)
    for block in found.blocks:
        if block.link_characters < 0.5 * len(block.text) and SENTENCE_END.search(block.text):
            sums[block.box] += len(block.text)
    for at in range(len(sums) - 1, 0, -1):
        sums[found.boxes[at].parent] += sums[at]
    return sums


def _is_beside_field(element: etree._Element) -> bool:
    """Whether a button or field stands beside the element."""
    parent = element.getparent()
    if parent is None or parent.tag in ("body", "form") or element.tag in _HEADINGS:
        return False
    return any(child.get("was") for child in parent)


def _is_copyright(at: int, blocks: list[Block]) -> bool:
    """A short line with a copyright sign near the page's end, or with nothing but links after it."""
    block = blocks[at]
    if len(block.text) > _SHORT_CHARACTERS or not _COPYRIGHT.match(block.text) or block.element.tag in _HEADINGS:
        return False
    return at > 0.7 * len(blocks) or all(other.link_characters for other in blocks[at + 1 :])


def _lowest(element: etree._Element, names: NameWeights) -> float:
    """The lowest weight of the element's classes, id and role; tags do not count."""
    own = tuple(name for name in names_of(element) if not name.startswith("<"))
    lowest = names.of(own)[0]
    if lowest > _DOUBTED_NAME or lowest < _LOW_NAME:
        return lowest
    is_sure = any(name in FRAME_NAMES and names.weights.get(name, 0.0) < _DOUBTED_NAME for name in own)
    return 2 * _LOW_NAME if is_sure else lowest


def _is_frame(element: etree._Element) -> bool:
    get = element.get
    return _names_frame(str(element.tag), get("role") or "", get("class") or "", get("id") or "")


@lru_cache(maxsize=20000)
def _names_frame(tag: str, role: str, classes: str, identifier: str) -> bool:
    if not _NOT_PRINTED.isdisjoint(classes.split()):
        return True
    if tag in _FRAME_TAGS or role in _FRAME_ROLES:
        names = f"{classes} {identifier}"
        return not any(sign in names for sign in ("note", "admonition", "tip", "warning", "topic", "callout"))
    return False


def _is_main(element: etree._Element) -> bool:
    """Whether an element of a generator's page is its main part, in Javadoc before version 16 by its class."""
    names = (element.get("class") or "").split()
    return element.tag == "main" or element.get("role") == "main" or "contentContainer" in names


def _is_manual(element: etree._Element) -> bool:
    names = element.get("class")
    if names and not _MANUALS.isdisjoint(names.split()):
        return True
    term = next(element.iterchildren("dt"), None) if element.tag == "dl" else None
    return term is not None and "sig" in (term.get("class") or "").split()


def _is_too_little(blocks: list[Block], kept: np.ndarray) -> bool:
    """Whether what stays is far below the page's sentences."""
    prose = [
        0 if block.link_characters > 0.5 * len(block.text) or not SENTENCE_END.search(block.text) else len(block.text)
        for block in blocks
    ]
    whole = sum(prose)
    left = sum(len(block.text) for block, keep in zip(blocks, kept, strict=True) if keep)
    if whole < _LEAST_CHARACTERS:
        return left < 0.5 * whole
    return left < _LEAST_SHARE * whole or left < 0.5 * _LEAST_CHARACTERS


def _keep_atoms(blocks: list[Block], verdicts: list[Verdict]) -> None:
    """Code and formulas beside kept text, or with enough of their own, stay."""
    for at, (block, verdict) in enumerate(zip(blocks, verdicts, strict=True)):
        if verdict.is_kept or not (block.num_code or block.num_formulas):
            continue
        is_atom = block.element.tag in (CODE, FORMULA)
        near = any(verdicts[other].is_kept for other in (at - 1, at + 1) if 0 <= other < len(blocks))
        if verdict.logit > -_ATOM_GAIN or (is_atom and (near or verdict.logit > -2 * _ATOM_GAIN)):
            verdict.is_kept, verdict.reason = True, "code or formula"


def _join_terms(blocks: list[Block], verdicts: list[Verdict]) -> None:
    for at, block in enumerate(blocks[:-1]):
        if block.element.tag == "dt" and not verdicts[at].is_kept and verdicts[at + 1].is_kept:
            if any(node.tag == "dd" for node in (blocks[at + 1].element, *blocks[at + 1].element.iterancestors())):
                verdicts[at].is_kept, verdicts[at].reason = True, "term of a kept description"


def _judge_headings(blocks: list[Block], verdicts: list[Verdict], in_document: list[bool]) -> None:
    """From the end: a heading goes when nothing below it stays, but in documents, whose sections may be empty."""
    below: dict[int, bool] = {}
    first = next((at for at, verdict in enumerate(verdicts) if verdict.is_kept), 0)
    has_text = any(v.is_kept and b.element.tag not in _HEADINGS for b, v in zip(blocks, verdicts, strict=True))
    for at in range(len(blocks) - 1, -1, -1):
        level = _HEADINGS.get(blocks[at].element.tag)
        if level is None:
            if verdicts[at].is_kept:
                below = dict.fromkeys(range(1, 7), True)
            continue
        is_empty = not below.get(level) and not in_document[at]
        if verdicts[at].is_kept and has_text and is_empty and at > first:
            verdicts[at].is_kept, verdicts[at].reason = False, "heading of nothing"
        for deeper in range(level, 7):
            below[deeper] = False
        if verdicts[at].is_kept:
            below.update(dict.fromkeys(range(1, level), True))
