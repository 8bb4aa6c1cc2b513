# ruff: noqa: E501 - markup reads best unbroken
"""Tables of data stay tables: with lists, code and pipes in their cells, and with cells that span."""

from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.markdown import to_markdown


def written(html: str) -> str:
    root = parse(f"<html><body>{html}</body></html>")
    assert root is not None
    mark_atoms(root)
    return to_markdown(root)


def test_a_list_in_a_cell() -> None:
    text = written(
        "<table><tr><th>Part</th><th>Use</th></tr><tr><td>Keel<ul><li>deep</li><li>flat</li></ul></td><td>course</td></tr>"
        "<tr><td>Mast</td><td><ol><li>sails</li><li>flags</li></ol></td></tr></table>"
    )
    assert text == "| Part | Use |\n| --- | --- |\n| Keel deep; flat | course |\n| Mast | sails; flags |"


def test_headings_rules_and_quotations_in_cells_of_a_table_with_a_header() -> None:
    rows = "<tr><td>Keel</td><td><h4>deep</h4>or flat</td></tr><tr><td>Mast<hr>tall</td><td><blockquote>oak</blockquote></td></tr>"
    lines = ["| Keel | deep or flat |", "| Mast tall | oak |"]
    for head in ("<tr><th>Part</th><th>Use</th></tr>", "<tr><td><h3>Part</h3></td><td> <h3>Use</h3> </td></tr>"):
        assert written(f"<table>{head}{rows}</table>").splitlines() == ["| Part | Use |", "| --- | --- |", *lines]
    assert "|" not in written(f"<table><tr><td>menu</td><td>words</td></tr>{rows}</table>")


def test_a_line_of_code_in_a_cell_and_lines_of_code() -> None:
    row = "<tr><td>ADD</td><td><pre>{}</pre></td></tr><tr><td>SUB</td><td><pre>a -= b</pre></td></tr>"
    text = written(f"<table>{row.format('a += b')}</table>")
    assert text == "| ADD | `a += b` |\n| --- | --- |\n| SUB | `a -= b` |"
    text = written(f"<table>{row.format('a += b' + chr(10) + 'c += d')}</table>")
    assert "```\na += b\nc += d\n```" in text


def test_pipes_are_escaped() -> None:
    text = written("<table><tr><th>a|b<th>c<tr><td><code>x | y</code><td>\\(|z|\\)</table>")
    assert text.splitlines()[0] == "| a\\|b | c |" and "| `x \\| y` |" in text


def test_cells_that_span() -> None:
    text = written(
        "<table><tr><td colspan=9>Prices</td></tr><tr><th>ware<th colspan=2>euros<tr><td rowspan=2>salt<td>1<td>2"
        "<tr><td>3<td>4"
        "<tr><td colspan=99>all in 2020</table>"
    )
    assert text.splitlines() == [
        "Prices", "", "| ware | euros |  |", "| --- | --- | --- |", "| salt | 1 | 2 |", "|  | 3 | 4 |",
        "| all in 2020 |  |  |",
    ]  # fmt: skip


def test_a_table_that_lays_out_stays_none() -> None:
    menu = "<ul><li><a href=a>one</a></li><li><a href=b>two</a></li></ul>"
    text = written(f"<table><tr><td>{menu}</td><td>{menu}</td></tr><tr><td>{menu}</td><td>end</td></tr></table>")
    assert "|" not in text


def test_struck_text_is_marked() -> None:
    assert written("<p>The price was <del>10</del> <ins>8</ins> euros.</p>") == "The price was ~~10~~ 8 euros."
    assert written('<p>It costs <span style="text-decoration: line-through">10</span> 8.</p>') == "It costs ~~10~~ 8."
    assert written("<del><p>one</p><p>two</p></del>") == "one\n\ntwo"


def test_text_is_composed_and_joiners_stay() -> None:
    assert written("<p>cafe\u0301 क\u094d\u200dष</p>") == "café क\u094d\u200dष"
    assert written("<pre>cafe\u0301</pre>") == "```\ncafe\u0301\n```"
