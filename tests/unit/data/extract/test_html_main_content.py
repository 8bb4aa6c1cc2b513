# ruff: noqa: E501 - markup and patterns read best unbroken
"""The frame of a page goes, its matter stays: also where names lie and tables lay out."""

import pytest

from megatron_mimo.data.extract import extract, extract_html

PROSE = [
    "The tide turns twice a day because the moon passes overhead and underfoot.",
    "Two bulges of water follow it around the globe, one on either side.",
    "In narrow bays the water piles up and the difference grows to several metres.",
]
MATTER = "".join(f"<p>{sentence}</p>" for sentence in PROSE)
EXPECTED = "# Tides\n\n" + "\n\n".join(PROSE)
LINKS = "".join(f'<li><a href="/{at}">Noise link {at}</a></li>' for at in range(6))

FRAMES = {
    "html5": f"<header><a>Noise</a><nav><ul>{LINKS}</ul></nav></header><main><article><h1>Tides</h1>{MATTER}</article></main><aside><h2>Noise</h2><ul>{LINKS}</ul></aside><footer>Noise © 2020</footer>",
    "names": f'<div id="top-nav">{LINKS}</div><div class="wrap"><div id="content"><h1>Tides</h1><div class="post-meta">Noise by Noise on May 5</div>{MATTER}<div class="share-buttons">Share Noise</div>'
    f'<div class="author-box">Noise likes boats and has written about them for years.</div><div class="related-posts"><h3>Related posts</h3><ul>{LINKS}</ul></div></div><div class="sidebar">{LINKS}</div></div><div id="footer">Noise</div>',
    "no names": f'<div><ul>{LINKS}</ul></div><div><h1>Tides</h1>{MATTER}</div><div><ul>{LINKS}</ul></div><div>© 2021 Noise Inc. All rights reserved.</div>',
    "hashed names": f'<div class="css-1x2y"><ul class="css-aa1">{LINKS}</ul></div><div class="css-zz9"><h1 class="css-8">Tides</h1>{MATTER}</div><div class="css-qq"><h3>You might also like</h3><div><a href="/1">Noise one</a><a href="/2">Noise two</a></div></div>',
    "layout tables": f'<table width="800"><tr><td colspan="2"><a href="/">Noise</a> | <a href="/b">Noise</a></td></tr><tr><td width="150"><b>Noise</b><br><a href="a">Noise</a><br><a href="b">Noise</a><br><a href="c">Noise</a></td>'
    f'<td><h1>Tides</h1>{MATTER}</td></tr><tr><td colspan="2"><font size="1">© Noise 1999, best viewed at 800x600</font></td></tr></table>',
    "cookies and dialogs": f'<div class="cookie-consent">We use cookies, says Noise.</div><div role="dialog"><p>Noise wants your e-mail address.</p></div><main><h1>Tides</h1>{MATTER}</main>',
    "cookies without a name": f'<div><p>This website uses cookies to ensure you get the best Noise.</p><button>Accept</button></div><div><h1>Tides</h1>{MATTER}</div>',
    "hidden": f'<main><h1>Tides</h1>{MATTER}<div style="display: none">Noise</div><p hidden>Noise</p><span class="sr-only">Noise</span></main>',
    "lying names": f'<body class="with-sidebar has-nav"><div class="sidebar-layout"><div class="article-footer-wrap"><h1>Tides</h1>{MATTER}</div></div><div class="sidebar">{LINKS}</div></body>',
    "the whole page in a form": f'<form id="aspnetForm"><input type="hidden" value="Noise"><div><ul>{LINKS}</ul></div><h1>Tides</h1>{MATTER}</form>',
    "comment form": f'<article><h1>Tides</h1>{MATTER}</article><div id="respond"><h3>Leave a Reply</h3><form><p>Your email address will not be published, says Noise.</p><textarea></textarea></form></div>',
    "advertising inside": f'<main><h1>Tides</h1><p>{PROSE[0]}</p><div class="ad-slot"><p>Buy Noise now and save.</p></div><p>{PROSE[1]}</p><div class="newsletter-signup"><p>Get Noise in your inbox every week.</p></div><p>{PROSE[2]}</p></main>',
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_the_frame_goes_and_the_matter_stays(name: str) -> None:
    assert extract_html(f"<html><head><title>Tides | Noise</title></head>{FRAMES[name]}</html>", "") == EXPECTED


@pytest.mark.parametrize("box", ["sidebar", "related", "widget", "promo", "toc"])
def test_mathematics_and_code_are_not_lost_to_a_name(box: str) -> None:
    formula = '<script type="math/tex">x^2 + y^2 = z^2</script>'
    code = "<pre>for i in range(10):\n    print(i)</pre>"
    html = f'<body><div class="{box}"><p>Take {formula} and run the following program.</p>{code}</div><h1>Tides</h1>{MATTER}</body>'
    text = extract_html(html, "")
    assert "$x^2 + y^2 = z^2$" in text
    assert "for i in range(10):\n    print(i)" in text


def test_a_list_of_links_in_prose_stays() -> None:
    html = f'<main><h1>Tides</h1>{MATTER}<p>More is said in <a href="a">a book on tides</a> and in another <a href="b">on waves</a>, both good.</p></main>'
    assert "More is said in a book on tides and in another on waves, both good." in extract_html(html, "")


def test_footnotes_and_captions_stay() -> None:
    html = (
        f'<article><h1>Tides</h1>{MATTER}<figure><img src="a.png"><figcaption>A bay at low tide.</figcaption></figure>'
        '<section class="footnotes"><ol><li id="fn1">Not all moons do this.<a href="#fnref1">↩</a></li></ol></section></article>'
    )
    text = extract_html(html, "")
    assert "A bay at low tide." in text and "Not all moons do this." in text


@pytest.mark.parametrize("name", ["mw-editsection", "viewcode-link", "bbCodeBlock-expandLink"])
def test_links_of_programs_in_the_text_go(name: str) -> None:
    html = f'<main><h1>Tides</h1>{MATTER}<h2>Why<span class="{name}"><a href="e">Noise</a></span></h2><p>{PROSE[0]}</p></main>'
    assert extract_html(html, "").endswith(f"## Why\n\n{PROSE[0]}")


def test_a_solution_behind_a_button_stays() -> None:
    html = f'<main><h1>Tides</h1>{MATTER}<div class="solution" style="display:none"><p>The answer is twelve hours.</p></div></main>'
    assert "The answer is twelve hours." in extract_html(html, "")


def test_the_title_outside_the_container_is_found() -> None:
    html = f'<html><head><title>Tides - Blog</title></head><body><h1>My Blog</h1><h1>Tides</h1><div class="entry-content">{MATTER * 3}</div></body></html>'
    text = extract_html(html, "")
    assert text.startswith("# Tides\n") and "My Blog" not in text


def test_the_headline_of_a_declared_article_is_its_title() -> None:
    html = f'<html><head><title>Tides</title><meta property="og:type" content="article"></head><body><h1>Tides</h1><article>{MATTER}</article></body></html>'
    page = extract(html)
    assert (page.title, page.text) == ("Tides", EXPECTED.removeprefix("# Tides\n\n"))
    assert extract(html, headline=True).text == EXPECTED == extract_html(html.replace("article", "website", 1), "")
    assert extract(html.replace("article", "website", 1), headline=False).text == page.text


def test_a_page_inside_noscript_is_read_and_a_notice_in_it_is_not() -> None:
    notice = "<noscript><p>Noise needs a program that your browser does not run.</p></noscript>"
    whole = f"<body><script>var noise = 'some program text';</script><noscript><div><h1>Tides</h1>{MATTER * 3}</div></noscript></body>"
    assert PROSE[1] in extract_html(whole, "")
    assert extract_html(f"<body>{notice}<main><h1>Tides</h1>{MATTER}</main></body>", "") == EXPECTED


def test_text_that_a_stray_end_tag_put_outside_the_container_stays() -> None:
    html = f'<main><div class="entry-content"><h1>Tides</h1><p>{PROSE[0]}</p><div><p>{PROSE[1]}</p></div></div></div><p>{PROSE[2]}</p></main>'
    assert extract_html(html, "") == EXPECTED


@pytest.mark.parametrize(
    "container",
    [
        '<div id="content_views" class="markdown_views">',
        '<div id="cnblogs_post_body">',
        '<div class="article-viewer markdown-body">',
    ],
)
def test_chinese_blogs(container: str) -> None:
    sentence = "联合索引按照列的先后顺序排序，先比较第一列，相等时再比较第二列。因此查询条件必须从最左边的列开始。"
    html = (
        f'<html><head><title>索引_博客</title></head><body><div class="toolbar">登录 注册</div><main><div class="blog-content-box"><h1>索引</h1><div class="article-info-box">阅读数 1893 收藏</div>{container}<p>{sentence}</p>'
        f"<pre><code class='prism language-sql'>SELECT 1;</code></pre><p>{sentence}</p></div></div><div class='recommend-box'>相关推荐 <a>快速排序</a></div></main></body></html>"
    )
    assert extract_html(html, "") == f"# 索引\n\n{sentence}\n\n```sql\nSELECT 1;\n```\n\n{sentence}"
