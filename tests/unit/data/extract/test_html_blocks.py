# ruff: noqa: E501 - markup reads best unbroken
"""A page falls into blocks: each its own element, nothing lost, nothing twice."""

import lxml.etree as etree
import numpy as np
import pytest

from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.block_features import COLUMNS, features
from megatron_mimo.data.extract.block_names import NameWeights
from megatron_mimo.data.extract.block_series import SERIES
from megatron_mimo.data.extract.blocks import Blocks, find_blocks
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.head import read_head
from megatron_mimo.data.extract.markdown import to_markdown
from megatron_mimo.data.extract.names import names_of
from megatron_mimo.data.extract.sentences import SENTENCE_END, reads_like_sentence
from support.page_scoring import read_pages


def body_of(html: str) -> etree._Element:
    root = parse(html)
    assert root is not None
    body = root.find("body")
    assert body is not None
    mark_atoms(body)
    return body


def blocks_of(html: str) -> Blocks:
    return find_blocks(body_of(html))


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<div>one<p>two</p>three <b>four</b><p>five</p></div>", ["one", "two", "three four", "five"]),
        ("<div>one<br>two<br><br>three<br> <br>four</div>", ["one two", "three", "four"]),
        ("<ul><li>one<li>two<ul><li>three</ul></ul>", ["one two three"]),
        ("<ul><li><h3>one</h3><p>two</p><li><h3>three</h3></ul>", ["one", "two", "three"]),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", ["a b 1 2"]),
        ("<p>H<sub>2</sub>O and <b>bo</b>ld</p>", ["H2O and bold"]),
        ("<table><tr><td><h2>menu</h2><td><p>text</p><p>more</p></table>", ["menu", "text", "more"]),
        ("<dl><dt>term<dd>its meaning</dl>", ["term", "its meaning"]),
        ("<p>before</p><pre>x = 1\ny = 2</pre><p>after</p>", ["before", "x = 1 y = 2", "after"]),
        ("<a href=x><div>one</div><span>two</span></a>", ["one", "two"]),
        ("<span>one<div>two</div>three</span> four", ["one", "two", "three", "four"]),
        ("<p> </p><div><span> </span></div>", []),
    ],
)
def test_the_cut(html: str, expected: list[str]) -> None:
    assert [block.text for block in blocks_of(html).blocks] == expected


def test_links_lists_and_atoms_are_counted() -> None:
    blocks = blocks_of("<ul><li><a href=x>one</a><li><a href=y>two</a></ul><p>Call <code>f()</code>.</p>").blocks
    assert (blocks[0].num_links, blocks[0].link_characters, blocks[0].num_items) == (2, 6, 2)
    assert (blocks[1].num_links, blocks[1].num_code) == (0, 1)


def test_wrapping_text_changes_nothing_in_the_output() -> None:
    for page in read_pages():
        body, same = body_of(page.html), body_of(page.html)
        find_blocks(same)
        letters = "".join(to_markdown(body).split())
        assert "".join(to_markdown(same).split()) == letters, page.name


def test_boxes_form_a_tree_with_the_body_on_top() -> None:
    found = blocks_of("<main><div><p>one</p><p>two</p></div><aside>three</aside></main>")
    assert found.boxes[0].element.tag == "body" and found.boxes[0].parent == -1
    assert all(box.parent < at for at, box in enumerate(found.boxes))
    assert all(found.boxes[box.parent].depth == box.depth - 1 for box in found.boxes[1:])


def test_features_are_finite_numbers_and_do_not_depend_on_the_language() -> None:
    shape = "<html><head><title>{0}</title></head><body><nav><a href=x>{1}</a></nav><main><h1>{0}</h1><p>{2}</p><p>{2}</p></main></body></html>"
    rows = []
    for words in (
        ("Tides", "Home", "The moon pulls the water up."),
        ("Gezei", "Heim", "Der Mond zieht es zu sich hin"),
    ):
        sentence = words[2][:27].ljust(27, "n") + "."
        html = shape.format(words[0], words[1], sentence)
        root = parse(html)
        assert root is not None
        body = root.find("body")
        assert body is not None
        rows.append(features(find_blocks(body), read_head(root), NameWeights({"<nav": -2.0, "<main": 1.0})))
    assert rows[0].shape == (4, len(COLUMNS)) and all(abs(value) < 100 for value in rows[0].ravel())
    column = COLUMNS.index
    for name in ("links", "names_low", "names_high", "in_top", "is_title", "is_heading", "ends_sentence"):
        assert rows[0][:, column(name)].tolist() == rows[1][:, column(name)].tolist(), name
    assert rows[0][:, column("is_title")].tolist() == [0, 1, 0, 0]
    assert rows[0][0, column("names_low")] == -2 and rows[0][2, column("names_high")] == 1


def test_posts_are_a_series_and_an_article_is_none() -> None:
    sentence = "<p>The moon pulls the water up on both sides of the globe.</p>"
    posts = "".join(f'<div class="p{number}"><div class="u">A. Nonym</div>{sentence}</div>' for number in range(9))
    rows = []
    for html in (f"<h1>Tides</h1>{posts}", f"<h1>Tides</h1><div>{sentence * 9}</div>{posts[:300]}"):
        root = parse(f"<html><body>{html}</body></html>")
        assert root is not None
        found = find_blocks(root.find("body"))  # type: ignore[arg-type]
        rows.append(features(found, read_head(root), NameWeights({}))[:, [COLUMNS.index(name) for name in SERIES]])
    thread, article = rows
    assert thread[0].tolist()[:3] == [0, 0, 0] and (thread[1:, 0] == np.float32(np.log1p(9))).all()
    assert (thread[:, 4] == 1).all() and (thread[1:, 1] == 1).all()
    assert (article == 0).all()


@pytest.mark.parametrize(
    "text",
    [
        "It ends here.", "Ist das so?", "这是一句话。", "यह वाक्य लंबा है।", "یہ ایک جملہ ہے۔", "هل هذا صحيح؟",
        "ეს წინადადებაა.", "Սա նախադասություն է։", "ဒါက ဝါကျတစ်ခုပါ။", "“Quoted.”", "He said (twice!)", "ይህ ዓረፍተ ነገር ነው።",
    ],
)  # fmt: skip
def test_sentences_end_in_every_script(text: str) -> None:
    assert SENTENCE_END.search(text) and reads_like_sentence(text)


def test_what_is_no_sentence() -> None:
    assert not any(map(reads_like_sentence, ["Read more", "12 May 2020", "Version 3.14b", "首页", "ไทย"]))
    assert reads_like_sentence("ประโยคแรกของบทความนี้สั้นมาก")
    assert not SENTENCE_END.search("version 3.14 of example.org")


def test_names_match_by_whole_words() -> None:
    def names(html: str) -> set[str]:
        return set(names_of(body_of(html)[0]))

    assert names('<div class="elementor-widget postContent" id="p12">x</div>') == {
        "<div", ".elementor-widget", "elementor", "widget", ".post-content", "post", "content",
    }  # fmt: skip
    assert "ad" not in names('<div class="shadow header-adaptive">x</div>')
    assert names('<p role="Note" itemprop="articleBody">x</p>') == {"<p", "role=note", "itemprop=articlebody"}


def test_the_head_of_a_page() -> None:
    root = parse(
        '<html lang="de-AT"><head><title>Titel - Blatt</title><meta name="author" content="A. Autor"><meta property="article:published_time" content="2020-05-01T10:00:00Z">'
        '<script type="application/ld+json">{"@graph": [{"@type": "NewsArticle", "articleBody": "Der <b>ganze</b>\\n Text.", "headline": "Titel"}]}</script></head><body></body></html>'
    )
    assert root is not None
    head = read_head(root)
    assert (head.title, head.author, head.date, head.language, head.body) == (
        "Titel - Blatt", "A. Autor", "2020-05-01", "de", "Der ganze\n\nText.",
    )  # fmt: skip
    assert head.is_article
    for kind, expected in (
        ("WebPage", False),
        ("BlogPosting", True),
        ("DiscussionForumPosting", False),
        ("Article", True),
    ):
        root = parse(f'<html><head><script type="application/ld+json">{{"@type": "{kind}"}}</script></head></html>')
        assert root is not None and read_head(root).is_article == expected
    for broken in ("{", "[" * 5000, '{"@type": "Article", "articleBody": 3, "author": [1, {"name": null}]}'):
        root = parse(f'<html><head><script type="application/ld+json">{broken}</script></head></html>')
        assert root is not None and read_head(root).body == ""
