"""Characters of a PDF page with their places, and the runs of text they form.

Coordinates are PDF points from the page's lower left corner. A run is text on one baseline without a wide gap: a line
of a column, a table's cell. Runs keep sub- and superscripts (smaller glyphs off the baseline) as `x^2` and `x_{ij}`.
"""

import ctypes
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium

FIXED_PITCH_FLAG = 1
_MONOSPACED_NAMES = re.compile(r"cour|mono|consol|menlo|typewriter|fixed|cmtt|terminal|source ?code", re.I)
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
HYPHENS = "-\u00ad\u2010\x02"
"""Characters that can end a broken word; pdfium writes U+0002 for a hyphen it takes for one."""

WIDE_GAP_EM = 1.5
"""A gap from which on text belongs to another run; in monospaced text, gaps are alignment and stay."""
FAR_POINTS = 20_000.0
"""Characters further out than any page is large come from broken files."""
SPACE_GAP_EM = 0.14
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
    is_mono: bool


@dataclass(slots=True)
class Run:
    """Glyphs on one baseline, from left to right."""

    glyphs: list[Glyph] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.glyphs[0].left

    @property
    def right(self) -> float:
        return max(glyph.right for glyph in self.glyphs)

    @property
    def size(self) -> float:
        """Font size of the run's body: the largest one that a fair share of its glyphs has."""
        sizes = sorted(glyph.size for glyph in self.glyphs)
        return sizes[(len(sizes) * 7) // 10]

    @property
    def baseline(self) -> float:
        """Baseline of the first glyph of body size."""
        size = self.size * SCRIPT_SIZE_RATIO
        return next(glyph.baseline for glyph in self.glyphs if glyph.size >= size)

    @property
    def is_mono(self) -> bool:
        """Whether (nearly) all glyphs are monospaced."""
        return sum(glyph.is_mono for glyph in self.glyphs) > 0.8 * len(self.glyphs)

    @property
    def advance(self) -> float:
        """Width of one character cell of monospaced text."""
        steps = [b.left - a.left for a, b in zip(self.glyphs, self.glyphs[1:], strict=False)]
        steps = sorted(step for step in steps if step > 0.2 * self.size)
        return steps[len(steps) // 4] if steps else 0.6 * self.size

    @property
    def text(self) -> str:
        """The run's text with spaces where gaps are."""
        return _mono_text(self) if self.is_mono else _prose_text(self)


def read_glyphs(text_page: Any) -> list[Glyph]:
    """Every visible character of a `pypdfium2` text page, in the order of the page's content.

    pdfium gives the letters of a ligature one by one at the same place: they become one glyph.
    """
    raw = text_page.raw
    glyphs, fonts = [], _FontCache(raw)
    box, x, y = pdfium.FS_RECTF(), ctypes.c_double(), ctypes.c_double()
    for index in range(pdfium.FPDFText_CountChars(raw)):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if (code <= 32 and code != 2) or code in (0xA0, 0xFFFE, 0xFFFF):
            continue
        text = _LIGATURES.get(code) or chr(code)
        pdfium.FPDFText_GetCharOrigin(raw, index, x, y)
        if glyphs and glyphs[-1].left == x.value and glyphs[-1].baseline == y.value:
            glyphs[-1].text += text
            continue
        if not (abs(x.value) < FAR_POINTS and abs(y.value) < FAR_POINTS):
            continue
        pdfium.FPDFText_GetLooseCharBox(raw, index, box)
        size = abs(pdfium.FPDFText_GetFontSize(raw, index)) * _scale(raw, index)
        glyphs.append(Glyph(text, x.value, box.right, y.value, size or 1.0, fonts.is_mono(index)))
    return glyphs


def _scale(raw: Any, index: int) -> float:
    """Height that the text matrix gives to a font of size 1."""
    matrix = pdfium.FS_MATRIX()
    return abs(matrix.d) or 1.0 if pdfium.FPDFText_GetMatrix(raw, index, matrix) else 1.0


class _FontCache:
    """Whether a character's font is monospaced, asked once a font."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._buffer = ctypes.create_string_buffer(256)
        self._known: dict[tuple[bytes, int], bool] = {}

    def is_mono(self, index: int) -> bool:
        flags = ctypes.c_int()
        length = pdfium.FPDFText_GetFontInfo(self._raw, index, self._buffer, 256, flags)
        key = (self._buffer.raw[: min(length, 256)], flags.value)
        if key not in self._known:
            name = key[0].decode("utf-8", "replace")
            self._known[key] = bool(key[1] & FIXED_PITCH_FLAG) or bool(_MONOSPACED_NAMES.search(name))
        return self._known[key]


def form_runs(glyphs: list[Glyph]) -> list[Run]:
    """Cut the glyphs of a page, in content order, into runs."""
    runs: list[Run] = []
    for glyph in glyphs:
        if runs and _continues(runs[-1].glyphs[-1], runs[-1].glyphs[0], glyph):
            runs[-1].glyphs.append(glyph)
        else:
            runs.append(Run([glyph]))
    return _join_neighbours(runs)


def _continues(last: Glyph, first: Glyph, glyph: Glyph) -> bool:
    """Whether `glyph` stands on the line of `last`, close behind it."""
    size = max(last.size, glyph.size, first.size)
    gap = glyph.left - last.right
    if abs(glyph.baseline - last.baseline) > 0.5 * size or gap < -0.5 * size:
        return False
    return gap < WIDE_GAP_EM * size or (glyph.is_mono and last.is_mono)


def _join_neighbours(runs: list[Run]) -> list[Run]:
    """Join runs of one baseline that stand close although other text came between them in the file."""
    joined: list[Run] = []
    for run in sorted(runs, key=lambda run: (-round(run.baseline), run.left)):
        if (
            joined
            and abs(joined[-1].baseline - run.baseline) < 1
            and _continues(joined[-1].glyphs[-1], joined[-1].glyphs[0], run.glyphs[0])
        ):
            joined[-1].glyphs += run.glyphs
        else:
            joined.append(run)
    return joined


def join_row(runs: list[Run]) -> Run:
    """One run of several on the same baseline."""
    return Run(sorted((glyph for run in runs for glyph in run.glyphs), key=lambda glyph: glyph.left))


def _mono_text(run: Run) -> str:
    advance, start = run.advance, run.left
    text = ""
    for glyph in run.glyphs:
        column = round((glyph.left - start) / advance)
        text += " " * min(column - len(text), MOST_SPACES) + glyph.text.replace("\x02", "-")
    return text


def _prose_text(run: Run) -> str:
    pieces: list[str] = []
    level, previous = "", None
    size, baseline = run.size, run.baseline
    for glyph in run.glyphs:
        script = _script(glyph, size, baseline)
        if script != level:
            pieces.append("}" if level else "")
        if previous is not None and glyph.left - previous.right > SPACE_GAP_EM * size:
            pieces.append(" ")
        if script != level and script:
            pieces.append(script + "{")
        pieces.append(glyph.text)
        level, previous = script, glyph
    text = "".join(pieces) + ("}" if level else "")
    return re.sub(r"([_^])\{(.)\}", r"\1\2", text)


def _script(glyph: Glyph, size: float, baseline: float) -> str:
    """`^` or `_` for a small glyph above or below the baseline, else nothing."""
    shift = (glyph.baseline - baseline) / size
    if glyph.size > SCRIPT_SIZE_RATIO * size or abs(shift) < SCRIPT_SHIFT_EM:
        return ""
    return "^" if shift > 0 else "_"
