# ruff: noqa: E501 - markup and patterns read best unbroken
"""The form of the output: lists, tables, scripts, quotations, white space."""

import pytest

from megatron_mimo.data.extract import extract_html

CASES = [
    ("<p>E = mc<sup>2</sup>, H<sub>2</sub>O, 10<sup>−5</sup>, e<sup>i<i>x</i></sup>.</p>", "E = mc^2, H_2O, 10^{−5}, e^ix."),
    ("<p>The 1<sup>st</sup> of May<sup>[1]</sup> and a note<sup><a href='#fn'>2</a></sup>.</p>", "The 1st of May^{[1]} and a note[2]."),
    ("<p>Cited<sup class='reference'><a href='#c'>[3]</a></sup> here.</p>", "Cited here."),
    ("<ul><li>a<ol start=3><li>b<li>c</ol><li>d</ul>", "- a\n  3. b\n  4. c\n- d"),
    ("<ul><li><p>one</p><p>two</p></li></ul>", "- one\n\n  two"),
    ("<blockquote><p>He said so.</p><p>Twice.</p></blockquote>", "> He said so.\n\n> Twice."),
    ("<p>a<br>b<br><br>c.</p>", "a\nb\n\nc."),
    ("<p>  a\n   b&nbsp;&nbsp;c\tsoft&shy;hyphen </p>", "a b c softhyphen"),
    ("<h2 id=x>Head <em>line</em><a class=headerlink href=#x>¶</a></h2><p>Text.</p>", "## Head line\n\nText."),
    ("<dl><dt>Term</dt><dd>Its meaning.</dd></dl>", "Term\n\nIts meaning."),
    ("<p>snake_case_name * 2 # [x](y) &lt;b&gt;</p>", "snake_case_name * 2 # [x](y) <b>"),
    ("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>x <code>y</code></td></tr></table>", "| a | b |\n| --- | --- |\n| 1 | x `y` |"),
    ("<table><tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr><tr><td colspan=2>d</td></tr></table>", "| a | b |\n| --- | --- |\n|  | c |\n| d |  |"),
    ("<table><caption>Data.</caption><tr><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr></table>", "Data.\n\n| 1 | 2 |\n| --- | --- |\n| 3 | 4 |"),
    ("<table><tr><td><p>Left column text.</p></td><td><p>Right column text.</p></td></tr></table>", "Left column text.\n\nRight column text."),
    ("<table><tr><th>Input</th><th>Output</th></tr><tr><td><pre>1 2</pre></td><td><pre>3</pre></td></tr></table>", "| Input | Output |\n| --- | --- |\n| `1 2` | `3` |"),
    ("<p>中文\n换行。</p>", "中文换行。"),
    ("<p>He said <q>yes</q>.</p>", "He said “yes”."),
    ("<p>See <a href='x'>the <b>book</b></a> for more.</p>", "See the book for more."),
]  # fmt: skip


@pytest.mark.parametrize(("html", "markdown"), CASES)
def test_markdown(html: str, markdown: str) -> None:
    assert extract_html(f"<body><p>Before.</p>{html}<p>After.</p></body>", "") == f"Before.\n\n{markdown}\n\nAfter."
