"""Tables: pipe tables for data, plain blocks for tables that only lay a page out."""

from collections.abc import Callable, Iterator

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, text_of

_LAYOUT = ("table", "h1", "article", "section", "form")
_HEADINGS = ("h2", "h3", "h4", "h5", "h6")
_PARTS = (*_HEADINGS, "blockquote", "hr")
"""What lays a page out, unless a row of header cells stands above."""
_LISTS = ("ul", "ol")
_MAX_CELL_CHARACTERS = 400
_MAX_FILLED_COLUMNS = 60
"""Spanned cells are filled up to here: a page must not grow by what it claims to span."""
_MOST_CELLS_WITH_LISTS = 0.5
"""A table in which more cells than this hold lists lays a page out, unless it has header cells."""


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
    """Whether the table holds data: two rows and columns or more of short cells, lists and code at most."""
    if table.get("role") in ("presentation", "none"):
        return False
    rows = [cells for row in rows_of(table) if (cells := cells_of(row))]
    if len(rows) < 2 or max(len(cells) for cells in rows) < 2:
        return False
    if any(True for _ in table.iterdescendants(*_LAYOUT)):
        return False
    if any(True for _ in table.iterdescendants(*_PARTS)) and not all(map(_is_header, rows[0])):
        return False
    if any("\n" in (code.text or "") for code in table.iter(CODE)):
        return False  # lines of code cannot stand in a row
    cells = [cell for row in rows for cell in row]
    with_lists = [cell for cell in cells if next(cell.iter(*_LISTS, *_PARTS), None) is not None]
    has_header = any(map(_is_header, cells))
    if len(with_lists) > _MOST_CELLS_WITH_LISTS * len(cells) and not has_header:
        return False
    if any(len(text_of(cell)) > _MAX_CELL_CHARACTERS for cell in with_lists):
        return False
    return all(len(text_of(cell)) <= _MAX_CELL_CHARACTERS or cell.find("p") is None for cell in cells)


def _is_header(cell: etree._Element) -> bool:
    """Whether a cell is a header by its element, or holds nothing but a heading."""
    if cell.tag == "th":
        return True
    headings = [child for child in cell if child.tag in _HEADINGS]
    return bool(headings) and text_of(cell).strip() == "".join(map(text_of, headings)).strip()


def write_table(table: etree._Element, inline: Callable[[etree._Element], str]) -> str:
    """The pipe table; `inline` writes one cell on one line. Spanned cells stay empty after the first.

    Rows above the first one with several cells are titles: they stand as lines before the table.
    """
    rows = [cells for row in rows_of(table) if (cells := cells_of(row))]
    width = max((_width(cells) for cells in rows if len(cells) > 1), default=1)
    titles = []
    while rows and len(rows[0]) == 1 and _span(rows[0][0], "rowspan") == 1:
        titles.append(inline(rows.pop(0)[0]))
    grid = [row for row in _grid(rows, inline, min(width, _MAX_FILLED_COLUMNS)) if any(row)]
    blocks = ["\n".join(title for title in titles if title)]
    if grid:
        width = max(len(row) for row in grid)
        lines = [_line(row + [""] * (width - len(row))) for row in grid]
        blocks.append("\n".join([lines[0], _line(["---"] * width), *lines[1:]]))
    return "\n\n".join(block for block in blocks if block)


def _width(cells: list[etree._Element]) -> int:
    return sum(_span(cell, "colspan") for cell in cells)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grid(rows: list[list[etree._Element]], inline: Callable[[etree._Element], str], width: int) -> Iterator[list[str]]:
    below: dict[int, int] = {}
    for cells in rows:
        line: list[str] = []
        for cell in cells:
            while below.get(len(line), 0) > 0:
                below[len(line)] -= 1
                line.append("")
            text = inline(cell).replace("|", "\\|")
            columns, height = _span(cell, "colspan"), _span(cell, "rowspan")
            for at in range(min(columns, max(1, width - len(line)))):
                below[len(line)] = height - 1
                line.append(text if at == 0 else "")
        while below.get(len(line), 0) > 0:
            below[len(line)] -= 1
            line.append("")
        yield line


def _span(cell: etree._Element, name: str) -> int:
    value = cell.get(name, "1").strip()
    return min(max(int(value), 1), 50) if value.isdecimal() and len(value) < 4 else 1
