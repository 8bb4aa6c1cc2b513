"""Tables: pipe tables for data, plain blocks for tables that only lay a page out."""

from collections.abc import Callable, Iterator

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, text_of

_BLOCKS = (
    "table",
    CODE,
    "ul",
    "ol",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "hr",
    "article",
    "section",
    "form",
)
_MAX_CELL_CHARACTERS = 400
_MAX_FILLED_COLUMNS = 60
"""Spanned cells are filled up to here: a page must not grow by what it claims to span."""


def rows_of(table: etree._Element) -> list[etree._Element]:
    """The table's own rows, not those of tables inside it."""
    rows = []
    for child in table:
        if child.tag == "tr":
            rows.append(child)
        elif child.tag in ("thead", "tbody", "tfoot"):
            rows.extend(row for row in child if row.tag == "tr")
    return rows


def cells_of(row: etree._Element) -> list[etree._Element]:
    """The cells of a row."""
    return [cell for cell in row if cell.tag in ("td", "th")]


def is_data_table(table: etree._Element) -> bool:
    """Whether the table holds data: at least two rows and columns of short cells without blocks in them."""
    if table.get("role") in ("presentation", "none"):
        return False
    rows = [cells for row in rows_of(table) if (cells := cells_of(row))]
    if len(rows) < 2 or max(len(cells) for cells in rows) < 2:
        return False
    if any(True for _ in table.iterdescendants(*_BLOCKS)):
        return False
    return all(len(text_of(cell)) <= _MAX_CELL_CHARACTERS or cell.find("p") is None for cells in rows for cell in cells)


def write_table(table: etree._Element, inline: Callable[[etree._Element], str]) -> str:
    """The pipe table; `inline` writes one cell on one line. Spanned cells stay empty after the first."""
    grid = [row for row in _grid(table, inline) if any(row)]
    if not grid:
        return ""
    width = max(len(row) for row in grid)
    lines = [_line(row + [""] * (width - len(row))) for row in grid]
    return "\n".join([lines[0], _line(["---"] * width), *lines[1:]])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grid(table: etree._Element, inline: Callable[[etree._Element], str]) -> Iterator[list[str]]:
    below: dict[int, int] = {}
    for row in rows_of(table):
        line: list[str] = []
        for cell in cells_of(row):
            while below.get(len(line), 0) > 0:
                below[len(line)] -= 1
                line.append("")
            text = inline(cell)
            columns, rows = _span(cell, "colspan"), _span(cell, "rowspan")
            for at in range(min(columns, max(1, _MAX_FILLED_COLUMNS - len(line)))):
                below[len(line)] = rows - 1
                line.append(text if at == 0 else "")
        while below.get(len(line), 0) > 0:
            below[len(line)] -= 1
            line.append("")
        yield line


def _span(cell: etree._Element, name: str) -> int:
    value = cell.get(name, "1").strip()
    return min(max(int(value), 1), 50) if value.isdecimal() and len(value) < 4 else 1
