"""Rows of a PDF page in reading order, and the running headers and footers that are no part of the text."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from megatron_mimo.data.extract.pdf_columns import read_columns
from megatron_mimo.data.extract.pdf_glyphs import Run, join_row

MARGIN_SHARE = 0.12
"""Share of a page's height, at its top and bottom, in which running lines are looked for."""
MOST_RUNNING_LINES = 3
_PAGE_NUMBER = re.compile(
    r"(page|seite|第)?\s*[-–—\[(]?\s*(\d{1,4}|[ivxlc]{1,6})\s*[-–—\])]?\s*(页|(of|/|von)\s*\d+)?", re.I
)


@dataclass(slots=True)
class Line:
    """One line of text: what it says, where it stands, and the edges of its column."""

    run: Run
    text: str
    column_left: float
    column_right: float
    cells: tuple[Run, ...] = ()
    """The row's parts, where wide gaps cut it into two or more (a table's row), from left to right."""

    @property
    def baseline(self) -> float:
        return self.run.baseline


@dataclass(slots=True)
class PageLines:
    """The lines of a page in reading order, its height in points, and whether their order is in doubt."""

    lines: list[Line]
    height: float
    is_unsure: bool = False


def order_lines(runs: list[Run], height: float) -> PageLines:
    """The page's lines in reading order; where it is in doubt, in the order in which the file holds them."""
    columns, is_unsure = read_columns(runs)
    return PageLines([line for column in columns for line in _rows(column)], height, is_unsure)


def _rows(runs: list[Run]) -> Iterator[Line]:
    """Lines of one column from top to bottom; runs of one baseline (cells of a table) become one line."""
    left, right = min(run.left for run in runs), max(run.right for run in runs)
    row: list[Run] = []
    for run in sorted(runs, key=lambda run: -run.baseline):
        if row and row[0].baseline - run.baseline > 0.3 * max(run.size, row[0].size):
            yield _line(row, left, right)
            row = []
        row.append(run)
    yield _line(row, left, right)


def _line(row: list[Run], left: float, right: float) -> Line:
    row = sorted(row, key=lambda run: run.left)
    joined = join_row(row)
    if joined.is_mono or len(row) == 1:
        return Line(joined, joined.text, left, right)
    ordered = reversed(row) if joined.is_right_to_left else row
    return Line(joined, "  ".join(run.text for run in ordered), left, right, tuple(row))


def drop_running_lines(pages: list[PageLines]) -> None:
    """Take page numbers and lines that return at the top or bottom of most pages out of `pages`."""
    edges = [(number, edge) for number, page in enumerate(pages) for edge in _edges(page)]
    seen = Counter(key for number, edge in edges for key in {key for line in edge for key in _keys(line, number)})
    least = max(2, (len(pages) + 1) // 2) if len(pages) < 6 else max(3, len(pages) // 3)
    running = {id(line) for number, edge in edges for line in _running(edge, number, seen, least)}
    for page in pages:
        page.lines = [line for line in page.lines if id(line) not in running]


def _edges(page: PageLines) -> list[list[Line]]:
    """The outermost lines at the top and at the bottom of a page, each from the edge inwards."""
    lines = sorted(page.lines, key=lambda line: -line.baseline)
    top = [line for line in lines if line.baseline >= (1 - MARGIN_SHARE) * page.height]
    bottom = [line for line in reversed(lines) if line.baseline <= MARGIN_SHARE * page.height]
    return [top[:MOST_RUNNING_LINES], bottom[:MOST_RUNNING_LINES]]


def _running(edge: list[Line], number: int, seen: Counter[str], least: int) -> Iterator[Line]:
    """The edge's running lines: nothing but running lines lies between them and the edge."""
    for line in edge:
        returns = any(seen[key] >= least for key in _keys(line, number))
        if not returns and not _PAGE_NUMBER.fullmatch(line.text.strip()):
            return
        yield line


def _keys(line: Line, number: int) -> list[str]:
    """What a running line shares with those of other pages: its words, or a number that counts the pages."""
    text = " ".join(line.text.split())
    outer = re.findall(r"^\d{1,4}\b|\b\d{1,4}$", text)
    return [re.sub(r"\d+", "#", text), *(f"page {int(digits) - number}" for digits in outer)]
