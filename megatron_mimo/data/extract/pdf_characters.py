"""The characters of a PDF page as pdfium reads them: text, place, font, and the spaces and line ends between them.

A page may hold text in several directions (a landscape table, a stamp in the margin). Each direction is turned upright
and becomes a `Side` of its own, the one with most characters first.
"""

import ctypes
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium

from megatron_mimo.data.extract.pdf_glyphs import Glyph

FIXED_PITCH_FLAG = 1
FAR_POINTS = 20_000.0
"""Characters further out than any page is large come from broken files."""
STRAIGHT_RADIANS = math.radians(8)
"""Text turned by less than this from a multiple of a quarter turn is taken as straight (scans are never quite)."""
_MONOSPACED_NAMES = re.compile(r"cour|mono|consol|menlo|typewriter|fixed|cmtt|terminal|source ?code", re.I)
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
_LINE_ENDS = (0x0A, 0x0D)
_HYPHEN = 0x02
_NO_CHARACTERS = (0xFFFE, 0xFFFF)


@dataclass
class Side:
    """The text of a page in one direction, upright: glyphs in pdfium's order, and the page's height seen so."""

    glyphs: list[Glyph] = field(default_factory=list)
    height: float = 0.0


def read_sides(text_page: Any, box: tuple[float, float, float, float]) -> list[Side]:
    """The page's visible characters by direction of writing; `box` is the page's (left, bottom, right, top)."""
    sides: dict[float, Side] = {}
    reader = _Reader(text_page.raw)
    after_space = after_break = False
    for index, code in reader.characters():
        if code in _LINE_ENDS:
            after_break = True
        elif (code <= 32 and code != _HYPHEN) or chr(code).isspace():
            after_space = True
        elif code not in _NO_CHARACTERS:
            angle = reader.angle(index)
            turn = _Turn(angle, box)
            side = sides.setdefault(angle, Side(height=turn.height))
            glyph = reader.glyph(index, code, turn)
            if glyph is not None and not _is_ligature_part(side.glyphs, glyph):
                glyph.after_space, glyph.after_break = after_space, after_break
                side.glyphs.append(glyph)
            after_space = after_break = False
    return sorted(sides.values(), key=lambda side: -len(side.glyphs))


def _is_ligature_part(glyphs: list[Glyph], glyph: Glyph) -> bool:
    """pdfium gives the letters of a ligature one by one at the same place: they become one glyph."""
    if not glyphs or glyphs[-1].left != glyph.left or glyphs[-1].baseline != glyph.baseline:
        return False
    glyphs[-1].text += glyph.text
    return True


class _Turn:
    """Turns points of a page so that text written at `angle` (radians, counter-clockwise) is upright."""

    def __init__(self, angle: float, box: tuple[float, float, float, float]) -> None:
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        self._x = self._y = 0.0
        left, bottom, right, top = box
        corners = [self.point(x, y) for x in (left, right) for y in (bottom, top)]
        self._x, self._y = min(x for x, _ in corners), min(y for _, y in corners)
        self.height = max(y for _, y in corners) - self._y

    def point(self, x: float, y: float) -> tuple[float, float]:
        return x * self._cos + y * self._sin - self._x, y * self._cos - x * self._sin - self._y


class _Reader:
    """pdfium's calls for one text page."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._fonts = _FontCache(raw)
        self._box = pdfium.FS_RECTF()
        self._x, self._y = ctypes.c_double(), ctypes.c_double()

    def characters(self) -> Iterator[tuple[int, int]]:
        """(index, code point); the two halves that pdfium makes of a character beyond U+FFFF are one again."""
        high = None
        for index in range(pdfium.FPDFText_CountChars(self._raw)):
            code = pdfium.FPDFText_GetUnicode(self._raw, index)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if 0xDC00 <= code < 0xE000:
                code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high is not None else 0xFFFD
            high = None
            yield index, code

    def angle(self, index: int) -> float:
        """Direction of the character, a multiple of a quarter turn where it is near one, else whole degrees."""
        # pdfium counts clockwise.
        angle = -pdfium.FPDFText_GetCharAngle(self._raw, index)
        quarter = round(angle / (math.pi / 2))
        if abs(angle - quarter * math.pi / 2) < STRAIGHT_RADIANS:
            return (quarter % 4) * math.pi / 2
        return math.radians(round(math.degrees(angle)))

    def glyph(self, index: int, code: int, turn: _Turn) -> Glyph | None:
        """The character at its upright place; None where a broken file puts it far off any page."""
        x, y, box = self._x, self._y, self._box
        pdfium.FPDFText_GetCharOrigin(self._raw, index, x, y)
        if not (abs(x.value) < FAR_POINTS and abs(y.value) < FAR_POINTS):
            return None
        pdfium.FPDFText_GetLooseCharBox(self._raw, index, box)
        left, baseline = turn.point(x.value, y.value)
        corners = [turn.point(at, height)[0] for at in (box.left, box.right) for height in (box.bottom, box.top)]
        size = abs(pdfium.FPDFText_GetFontSize(self._raw, index)) * self._scale(index)
        text = _LIGATURES.get(code) or chr(code)
        return Glyph(text, left, max(corners), baseline, size or 1.0, self._fonts.is_mono(index))

    def _scale(self, index: int) -> float:
        """Height that the text matrix gives to a font of size 1."""
        matrix = pdfium.FS_MATRIX()
        known = pdfium.FPDFText_GetMatrix(self._raw, index, matrix)
        return math.hypot(matrix.c, matrix.d) or 1.0 if known else 1.0


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
