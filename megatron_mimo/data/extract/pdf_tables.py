"""Tables of a PDF: lines that wide gaps cut into cells, one above the other, become the rows of a Markdown table.

Columns are the places where the cells of ordinary rows stand. A line with one cell beside the first column continues
the row above it. What is not seen: rules and boxes, cells that span rows.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from megatron_mimo.data.extract.pdf_glyphs import Run
from megatron_mimo.data.extract.pdf_layout import Line

MIN_ROWS = 3
LONG_CELL_CHARACTERS = 25
"""Two columns whose usual cells are both longer are text beside text, not a table."""
MOST_ROW_PITCHES = 2.5
"""Rows stand at most this many usual line distances apart."""
CELL_PITCHES = 1.3
"""Lines of one cell stand closer than that."""
_LIST_MARK = re.compile(r"\W{1,2}|\(?\w{1,3}[.):\]]{1,2}|\[\w{1,4}\]")

Span = tuple[float, float]


def find_tables(lines: Sequence[Line], pitch: float) -> set[int]:
    """Indices of the lines that belong to tables; `pitch` is the usual distance of lines in font sizes."""
    found: set[int] = set()
    for start, end in _stretches(lines, pitch):
        rows = [line for line in lines[start:end] if _is_row(line)]
        if len(rows) >= MIN_ROWS and _is_table(rows):
            while end < len(lines) and _continues_row(lines[end - 1], lines[end], pitch, _columns(rows)):
                end += 1
            found.update(range(start, end))
    return found


def write_table(lines: Sequence[Line]) -> str:
    """The Markdown table of the lines of one table; its first row stands as the head."""
    columns = _columns([line for line in lines if _is_row(line)])
    rows: list[list[str]] = []
    for line in lines:
        row = [""] * len(columns)
        cells = line.cells or (line.run,)
        for cell in cells:
            place = _nearest(columns, cell)
            row[place] = f"{row[place]} {cell.text.strip()}".strip().replace("|", r"\|")
        if rows and len(cells) == 1 and not row[0]:
            rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], row, strict=True)]
        else:
            rows.append(row)
    rows.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _is_table(rows: list[Line]) -> bool:
    columns = _columns(rows)
    texts: list[list[int]] = [[] for _ in columns]
    for row in rows:
        for cell in row.cells:
            texts[_nearest(columns, cell)].append(len(cell.glyphs))
    are_long = all(median(lengths) > LONG_CELL_CHARACTERS for lengths in texts if lengths)
    return len(columns) > 2 or (len(columns) == 2 and not are_long)


def _stretches(lines: Sequence[Line], pitch: float) -> Iterator[tuple[int, int]]:
    """(start, end) of lines close below each other that begin and end with rows; single cells may stand between."""
    start = end = None
    for place, line in enumerate(lines):
        if end is not None and not _follows(lines[place - 1], line, pitch):
            yield start or 0, end
            start = end = None
        if _is_row(line):
            start, end = place if start is None else start, place + 1
        elif end is not None and place > end:
            yield start or 0, end
            start = end = None
    if end is not None:
        yield start or 0, end


def _follows(line: Line, following: Line, pitch: float) -> bool:
    step = (line.baseline - following.baseline) / line.run.size
    return 0 < step < MOST_ROW_PITCHES * pitch and line.column_left == following.column_left


def _continues_row(line: Line, following: Line, pitch: float, columns: list[Span]) -> bool:
    """Whether a line is the second one of a cell beside the first column."""
    step = (line.baseline - following.baseline) / line.run.size
    return 0 < step < CELL_PITCHES * pitch and not following.cells and following.run.left > columns[0][1]


def _is_row(line: Line) -> bool:
    """Whether the line has cells, and is no list item whose mark stands apart."""
    return len(line.cells) > 2 or (len(line.cells) == 2 and not _LIST_MARK.fullmatch(line.cells[0].text.strip()))


def _columns(rows: Sequence[Line]) -> list[Span]:
    """Where the cells of rows with the usual number of cells stand, overlapping ones as one."""
    usual = Counter(len(row.cells) for row in rows).most_common(1)[0][0]
    spans = sorted((cell.left, cell.right) for row in rows if len(row.cells) == usual for cell in row.cells)
    columns = [spans[0]]
    for left, right in spans[1:]:
        if left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _nearest(columns: list[Span], cell: Run) -> int:
    """The column that holds most of the cell, or else the closest one."""

    def overlap(column: Span) -> float:
        return min(column[1], cell.right) - max(column[0], cell.left)

    return max(range(len(columns)), key=lambda place: overlap(columns[place]))
