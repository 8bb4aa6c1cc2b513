"""Lines of a PDF -> paragraphs, headings, tables and fenced code in Markdown."""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from megatron_mimo.data.extract.pdf_glyphs import HYPHENS, MOST_SPACES
from megatron_mimo.data.extract.pdf_layout import Line
from megatron_mimo.data.extract.pdf_tables import find_tables, write_table

HEADING_SIZE_RATIO = 1.15
PARAGRAPH_GAP_RATIO = 1.35
INDENT_EM = 0.8
CODE_GAP_EM = 6.0
"""A gap in monospaced text that ends a block; smaller ones are empty lines."""
_BULLET = re.compile(r"[•‣▪●◦·∙–]\s*(?=\S)")
_ENUMERATION = re.compile(r"(\(?\d{1,2}[.)]|\([a-z]\)|\[\d+\])\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;。！？：][\"'”’)\]]*$")
Kind = Literal["prose", "heading", "code", "table"]


@dataclass
class Block:
    """Lines that belong together."""

    kind: Kind
    lines: list[Line] = field(default_factory=list)


def to_markdown(pages: list[list[Line]]) -> str:
    """Markdown of the pages' lines, in reading order; paragraphs and code go on over page and column ends."""
    lines = [line for page in pages for line in page]
    if not lines:
        return ""
    body_size = _body_size(lines)
    blocks = _merge_continued(_form_blocks(lines, body_size, _line_pitch(lines)))
    hyphenated = _hyphenated_words(lines)
    return "\n\n".join(_write(block, hyphenated) for block in blocks) + "\n"


def _body_size(lines: list[Line]) -> float:
    """Font size of most characters."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.run.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0]


def _line_pitch(lines: list[Line]) -> float:
    """Usual distance of two baselines, in units of the font size."""
    steps = [(a.baseline - b.baseline) / a.run.size for a, b in itertools.pairwise(lines) if not _jumps(a, b)]
    return median(steps) if steps else 1.2


def _jumps(line: Line, following: Line) -> bool:
    """Whether the next line is not just below: another column or page, or far away."""
    step = line.baseline - following.baseline
    return step <= 0 or step > 3 * line.run.size or line.column_left != following.column_left


def _form_blocks(lines: list[Line], body_size: float, pitch: float) -> list[Block]:
    blocks: list[Block] = []
    previous: Line | None = None
    in_table = find_tables(lines, pitch)
    kinds: list[Kind] = ["table" if place in in_table else _kind(line, body_size) for place, line in enumerate(lines)]
    for place, line in enumerate(lines):
        kind: Kind = "prose" if _is_inline_code(lines, kinds, place, pitch) else kinds[place]
        if previous is None or blocks[-1].kind != kind or _starts_block(kind, previous, line, pitch):
            blocks.append(Block(kind))
        blocks[-1].lines.append(line)
        previous = line
    return blocks


def _kind(line: Line, body_size: float) -> Kind:
    if line.run.is_mono:
        return "code"
    is_large = line.run.size > HEADING_SIZE_RATIO * body_size and len(line.text) < 200
    return "heading" if is_large and re.search(r"[^\W\d_]", line.text) else "prose"


def _is_inline_code(lines: list[Line], kinds: list[Kind], place: int, pitch: float) -> bool:
    """Whether a line of code stands alone amid the lines of a paragraph."""
    around = lines[place - 1 : place + 2]
    if place == 0 or len(around) < 3 or kinds[place - 1 : place + 2] != ["prose", "code", "prose"]:
        return False
    steps = [a.baseline - b.baseline for a, b in itertools.pairwise(around)]
    return all(0 < step < PARAGRAPH_GAP_RATIO * pitch * around[1].run.size for step in steps)


def _starts_block(kind: Kind, previous: Line, line: Line, pitch: float) -> bool:
    size = line.run.size
    if kind == "heading" and abs(size - previous.run.size) > 0.5:
        return True
    if kind == "table":
        return _jumps(previous, line)
    if kind == "code":
        return previous.column_left == line.column_left and previous.baseline - line.baseline > CODE_GAP_EM * size
    if _jumps(previous, line):
        return True
    if previous.baseline - line.baseline > PARAGRAPH_GAP_RATIO * pitch * size:
        return True
    if kind == "heading":
        return False
    return _starts_item(line) or _is_indented(previous, line) or _ended_early(previous)


def _starts_item(line: Line) -> bool:
    return bool(_BULLET.match(line.text) or _ENUMERATION.match(line.text))


def _is_indented(previous: Line, line: Line) -> bool:
    """First line of a paragraph that is told by its indentation alone."""
    indent = INDENT_EM * line.run.size
    if _starts_item(previous):
        return False
    return line.run.left - line.column_left > indent and previous.run.left - previous.column_left < indent


def _ended_early(line: Line) -> bool:
    """Whether the line stops well before its column does, at the end of a sentence."""
    room = line.column_right - line.run.right
    return room > 0.25 * (line.column_right - line.column_left) and bool(_SENTENCE_END.search(line.text))


def _merge_continued(blocks: list[Block]) -> list[Block]:
    """Join a paragraph that was cut by the end of its column or page."""
    merged: list[Block] = []
    for block in blocks:
        if merged and block.kind == merged[-1].kind == "prose" and _goes_on(merged[-1].lines[-1], block.lines[0]):
            merged[-1].lines += block.lines
        else:
            merged.append(block)
    return merged


def _goes_on(last: Line, first: Line) -> bool:
    is_cut = (_jumps(last, first) and last.baseline - first.baseline <= 0) or last.column_left != first.column_left
    return is_cut and not _SENTENCE_END.search(last.text) and not _starts_item(first) and first.text[:1].islower()


def _hyphenated_words(lines: list[Line]) -> set[str]:
    """Words written with a hyphen inside a line: they keep it when a line breaks there."""
    return {word.lower() for line in lines for word in re.findall(r"\w+-\w+", line.text)}


def _write(block: Block, hyphenated: set[str]) -> str:
    if block.kind == "code":
        return f"```\n{_code_text(block.lines)}\n```"
    if block.kind == "table":
        return write_table(block.lines)
    text = join_lines([line.text for line in block.lines], hyphenated)
    if block.kind == "heading":
        return f"## {text}"
    return _BULLET.sub("- ", text, count=1) if _BULLET.match(text) else text


def join_lines(texts: list[str], hyphenated: set[str]) -> str:
    """One paragraph: words broken at line ends are whole again, unless the hyphen is their own."""
    joined = texts[0].strip()
    for text in texts[1:]:
        text = text.strip()
        if len(joined) > 1 and joined[-1] in HYPHENS and joined[-2].isalpha() and text[:1].islower():
            first, second = re.search(r"(\w+).$", joined), re.match(r"\w+", text)
            word = f"{first[1]}-{second[0]}".lower() if first and second else ""
            joined = joined[:-1] + ("-" if word in hyphenated else "") + text
        elif joined and text and _is_wide(joined[-1]) and _is_wide(text[0]):
            joined += text
        else:
            joined = f"{joined} {text}".strip()
    return joined.replace("\x02", "-").replace("\u00ad", "")


def _is_wide(character: str) -> bool:
    """Chinese, Japanese and their punctuation: written without spaces."""
    return "\u3000" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef"


def _code_text(lines: list[Line]) -> str:
    """The block's lines with their indentation, and empty lines where the distance is two lines or more."""
    steps = [a.baseline - b.baseline for a, b in itertools.pairwise(lines) if a.baseline > b.baseline]
    pitch = min(steps, default=0.0)
    margins: dict[float, float] = {}
    for line in lines:
        margins[line.column_left] = min(line.run.left, margins.get(line.column_left, line.run.left))
    text: list[str] = []
    for place, line in enumerate(lines):
        step = lines[place - 1].baseline - line.baseline if place else 0.0
        if pitch and step > 1.5 * pitch:
            text += [""] * min(round(step / pitch) - 1, 3)
        indent = round((line.run.left - margins[line.column_left]) / line.run.advance)
        text.append(" " * min(indent, MOST_SPACES) + line.text)
    return "\n".join(text)
