"""The Chinese pages keep step with the English ones: headings, commands, tables and figures.

After a change of an English page, change the Chinese one as well; the assertion says where they differ.
"""

import re
from pathlib import Path

import pytest

from support.doc_names import FENCE
from support.paths import ROOT

PAIRS = {ROOT / "README.md": ROOT / "README.zh.md"} | {
    ROOT / "docs" / f"{name}.md": ROOT / "docs" / "zh" / f"{name}.md" for name in ("quickstart", "sft", "rl", "serve")
}
FIGURE = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:[.,]\d+)*")
CELL_END = re.compile(r"(?<!\\)[|]")
each_pair = pytest.mark.parametrize(("english", "chinese"), PAIRS.items(), ids=lambda path: str(path.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """The fenced blocks without their comments, which are translated."""
    blocks = [body for _, _, body in FENCE.findall(text_of(page))]
    return [re.sub(r"(^|\s+)# .*", "", block, flags=re.MULTILINE).strip() for block in blocks]


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def shape_of(page: Path) -> list[str]:
    """Headings by their level, and tables by their numbers of rows and columns."""
    shape: list[str] = []
    rows: list[str] = []
    for line in [*prose_of(page).splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
            continue
        if rows:
            shape.append(f"table of {len(rows)} rows, {len(CELL_END.findall(rows[0])) - 1} columns")
            rows = []
        if heading := re.match(r"#+ ", line):
            shape.append(heading[0].strip())
    return shape


@each_pair
def test_headings_and_tables_are_the_same(english: Path, chinese: Path) -> None:
    assert shape_of(chinese) == shape_of(english)


@each_pair
def test_commands_are_the_same(english: Path, chinese: Path) -> None:
    assert code_of(chinese) == code_of(english)
    assert len(code_of(english)) > 1


@each_pair
def test_figures_are_those_of_the_english_page(english: Path, chinese: Path) -> None:
    """A figure that changes in English must not stay in Chinese."""
    known = set(FIGURE.findall(prose_of(english)))
    stale = set(FIGURE.findall(prose_of(chinese))) - known
    assert not stale, sorted(stale)
