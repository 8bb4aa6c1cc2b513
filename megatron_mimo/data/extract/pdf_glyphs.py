"""Runs of text on a PDF page, and how they are written.

Coordinates are PDF points from the lower left corner of the page as its text is read (a sideways text is turned upright
first). A run is text on one baseline without a wide gap: a line of a column, a table's cell. Words are the file's own:
pdfium knows the spaces that the file holds and those that its letter positions imply. Runs keep sub- and superscripts
(smaller glyphs off the baseline) as `x^2` and `x_{ij}`. Where pdfium gives right-to-left text, its order is logical.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median

HYPHENS = "-\u00ad\u2010\x02"
"""Characters that can end a broken word; pdfium writes U+0002 for a hyphen it takes for one."""

WIDE_GAP_EM = 1.5
"""A gap from which on text belongs to another run; in monospaced text, gaps are alignment and stay."""
GUTTER_EM = 0.6
"""A gutter is wider than a word space. Pieces of text written apart in the file join a run across narrower gaps."""
SPACE_GAP_EM = 0.14
"""A gap that is a space where the file does not say: between pieces that were written apart."""
LETTER_SPACED_SHARE = 0.8
MOST_SPACES = 200
SCRIPT_SIZE_RATIO = 0.85
SCRIPT_SHIFT_EM = 0.12


@dataclass(slots=True)
class Glyph:
    """One visible character; `baseline` and the edges `left`, `right` in points."""

    text: str
    left: float
    right: float
    baseline: float
    size: float
    is_mono: bool = False
    after_space: bool = False
    """The file has a space before it."""
    after_break: bool = False
    """pdfium begins a new line with it: whether a space precedes it is to be seen from the gap."""


@dataclass
class Run:
    """Glyphs on one baseline, in reading order; not changed once a property was asked for."""

    glyphs: list[Glyph] = field(default_factory=list)

    @cached_property
    def left(self) -> float:
        return min(glyph.left for glyph in self.glyphs)

    @cached_property
    def right(self) -> float:
        return max(glyph.right for glyph in self.glyphs)

    @cached_property
    def size(self) -> float:
        """Font size of the run's body: the largest one that a fair share of its glyphs has."""
        sizes = sorted(glyph.size for glyph in self.glyphs)
        return sizes[(len(sizes) * 7) // 10]

    @cached_property
    def baseline(self) -> float:
        """Baseline of the first glyph of body size."""
        size = self.size * SCRIPT_SIZE_RATIO
        return next(glyph.baseline for glyph in self.glyphs if glyph.size >= size)

    @cached_property
    def is_mono(self) -> bool:
        """Whether (nearly) all glyphs are monospaced."""
        return sum(glyph.is_mono for glyph in self.glyphs) > 0.8 * len(self.glyphs)

    @cached_property
    def solid_parts(self) -> list[tuple[float, float]]:
        """The run's extent, without gaps that are as wide as a gutter."""
        glyphs = sorted(self.glyphs, key=lambda glyph: glyph.left)
        parts = [(glyphs[0].left, glyphs[0].right)]
        for glyph in glyphs[1:]:
            start, right = parts[-1]
            if glyph.left - right > GUTTER_EM * self.size:
                parts.append((glyph.left, glyph.right))
            else:
                parts[-1] = (start, max(right, glyph.right))
        return parts

    @cached_property
    def is_right_to_left(self) -> bool:
        """Whether most of its letters belong to a script that is written from right to left."""
        directions = [unicodedata.bidirectional(glyph.text[0]) for glyph in self.glyphs]
        return sum(direction in ("R", "AL") for direction in directions) > directions.count("L")

    @cached_property
    def advance(self) -> float:
        """Width of one character cell of monospaced text."""
        steps = sorted(step for a, b in pairwise(self.glyphs) if (step := b.left - a.left) > 0.2 * self.size)
        cell = median(glyph.right - glyph.left for glyph in self.glyphs)
        narrowest = steps[len(steps) // 4] if steps else 0.6 * self.size
        # A row of dashes with a space between each has no two neighbours one cell apart: then the box of a glyph tells.
        return cell if 0.3 * self.size < cell < 0.75 * narrowest else narrowest

    @cached_property
    def text(self) -> str:
        """The run's text with spaces where gaps are."""
        return _mono_text(self) if self.is_mono else _prose_text(self)


def form_runs(glyphs: list[Glyph]) -> list[Run]:
    """Cut the glyphs of a page into runs, both in content order; pieces of a line written apart are joined."""
    runs: list[Run] = []
    for glyph in glyphs:
        if runs and _continues(runs[-1].glyphs[-1], runs[-1].glyphs[0], glyph):
            runs[-1].glyphs.append(glyph)
        else:
            runs.append(Run([glyph]))
    place = {id(run.glyphs[0]): number for number, run in enumerate(runs)}
    return sorted(_join_neighbours(runs), key=lambda run: place[id(run.glyphs[0])])


def _continues(last: Glyph, first: Glyph, glyph: Glyph) -> bool:
    """Whether `glyph` stands on the line of `last`, close to it on the side where its script goes on."""
    size = max(last.size, glyph.size, first.size)
    if abs(glyph.baseline - last.baseline) > 0.5 * size:
        return False
    gap = glyph.left - last.right
    if gap < -0.5 * size:
        # Right-to-left text in logical order, or figures inside it.
        return not glyph.after_break and -WIDE_GAP_EM * size < glyph.right - last.left < 0.5 * size
    return gap < WIDE_GAP_EM * size or (glyph.is_mono and last.is_mono)


def _join_neighbours(runs: list[Run]) -> list[Run]:
    """Join runs of one baseline that stand close although other text came between them in the file."""
    joined: list[Run] = []
    for run in sorted(runs, key=lambda run: (-round(run.baseline), run.left)):
        if joined and abs(joined[-1].baseline - run.baseline) < 1 and _is_close(joined[-1], run):
            joined[-1] = join_row([joined[-1], run])
        else:
            joined.append(run)
    return joined


def _is_close(run: Run, following: Run) -> bool:
    size, gap = max(run.size, following.size), following.left - run.right
    is_mono = run.is_mono and following.is_mono
    return -0.5 * size < gap and (gap < GUTTER_EM * size or is_mono)


def join_row(runs: list[Run]) -> Run:
    """One run of several on the same baseline, from left to right or, in right-to-left text, from right to left."""
    is_right_to_left = sum(run.is_right_to_left for run in runs) * 2 > len(runs)
    ordered = sorted(runs, key=lambda run: run.left, reverse=is_right_to_left)
    for run in ordered[1:]:
        run.glyphs[0].after_break = True
    return Run([glyph for run in ordered for glyph in run.glyphs])


def cut_run(run: Run, x: float) -> list[Run]:
    """The parts of a left-to-right run on both sides of `x`."""
    sides = [[glyph for glyph in run.glyphs if (glyph.left < x) == is_left] for is_left in (True, False)]
    return [Run(side) for side in sides if side]


def _mono_text(run: Run) -> str:
    advance, start = run.advance, run.left
    text = ""
    for glyph in run.glyphs:
        column = round((glyph.left - start) / advance)
        text += " " * min(column - len(text), MOST_SPACES) + glyph.text.replace("\x02", "-")
    return text


def _prose_text(run: Run) -> str:
    pieces: list[str] = []
    level = ""
    size, baseline = run.size, run.baseline
    for glyph, is_spaced in zip(run.glyphs, _spaces(run), strict=True):
        script = _script(glyph, size, baseline)
        if script != level:
            pieces.append("}" if level else "")
        if is_spaced:
            pieces.append(" ")
        if script != level and script:
            pieces.append(script + "{")
        pieces.append(glyph.text)
        level = script
    text = "".join(pieces) + ("}" if level else "")
    return re.sub(r"([_^])\{(.)\}", r"\1\2", text)


def _spaces(run: Run) -> list[bool]:
    """Whether a space stands before each glyph of the run."""
    gaps = [max(b.left - a.right, a.left - b.right) for a, b in pairwise(run.glyphs)]
    spaced = [
        glyph.after_space or (glyph.after_break and gap > SPACE_GAP_EM * run.size)
        for gap, glyph in zip(gaps, run.glyphs[1:], strict=True)
    ]
    if len(gaps) > 4 and sum(spaced) > LETTER_SPACED_SHARE * len(gaps) and _are_letters(run):
        # "D o u b l e": a space after every letter is decoration, and a word ends where the gap is a wider one.
        usual = median(gaps)
        spaced = [gap > usual + 0.3 * run.size for gap in gaps]
    return [False, *spaced]


def _are_letters(run: Run) -> bool:
    return sum(glyph.text.isalpha() for glyph in run.glyphs) > LETTER_SPACED_SHARE * len(run.glyphs)


def _script(glyph: Glyph, size: float, baseline: float) -> str:
    """`^` or `_` for a small glyph above or below the baseline, else nothing."""
    shift = (glyph.baseline - baseline) / size
    if glyph.size > SCRIPT_SIZE_RATIO * size or abs(shift) < SCRIPT_SHIFT_EM:
        return ""
    return "^" if shift > 0 else "_"
