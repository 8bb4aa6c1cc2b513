# ruff: noqa: E501 - markup and patterns read best unbroken
"""Threads: the posts in order, with their depth, and nothing of the frame around them."""

import pytest

from megatron_mimo.data.extract import extract, extract_html

QUESTION = "Why is the sky blue? I see no reason for it."
FIRST = "Short waves are scattered more than long ones."
SECOND = "Ask Rayleigh, he wrote the formula down."
REPLY = "But then why is it not violet?"

STACK_EXCHANGE = f"""<div id="question-header"><h1><a class="question-hyperlink" href="/q/1">Colour of the sky</a></h1></div>
<div class="question" id="question"><div class="votecell"><div class="js-vote-count">14</div></div><div class="postcell"><div class="s-prose js-post-body" itemprop="text"><p>{QUESTION}</p></div>
<div class="post-taglist"><a class="post-tag">optics</a></div><div class="user-info">asked Jan 1 <a>NoiseUser</a></div></div></div>
<div id="answers"><h2>2 Answers</h2><div class="answer accepted-answer"><div class="js-vote-count">9</div><div class="s-prose js-post-body"><p>{FIRST}</p></div><div class="user-details">NoiseUser</div>
<div class="comments"><ul><li class="comment"><div class="comment-text"><span class="comment-copy">{REPLY}</span> <a class="comment-user">NoiseUser</a></div></li></ul></div></div>
<div class="answer"><div class="s-prose js-post-body"><p>{SECOND}</p></div></div></div><h2>Your Answer</h2><form><textarea></textarea></form>
<div id="sidebar"><h4>Related</h4><a class="question-hyperlink">Noise link</a></div>"""

FLAT = {
    "Discourse": '<h1 class="fancy-title">Colour of the sky</h1>' + "".join(
        f'<div class="topic-post"><article id="post_1"><div class="topic-avatar">NoiseUser</div><div class="topic-body"><div class="topic-meta-data"><span class="names">NoiseUser</span></div>'
        f'<div class="regular contents"><div class="cooked"><p>{text}</p></div><section class="post-menu-area"><span>Noise likes</span></section></div></div></article></div>' for text in (QUESTION, FIRST, SECOND)),
    "phpBB 3": '<h2 class="topic-title"><a>Colour of the sky</a></h2>' + "".join(
        f'<div id="p1" class="post bg2"><div class="inner"><dl class="postprofile"><dt>NoiseUser</dt></dl><div class="postbody"><h3>Re: Noise</h3><p class="author">by NoiseUser</p><div class="content">{text}</div>'
        '<div id="sig1" class="signature">Noise signature</div></div></div></div>' for text in (QUESTION, FIRST, SECOND)),
    "vBulletin 3": "".join(f'<table id="post1"><tr><td>NoiseUser</td><td id="td_post_{at}"><div id="post_message_{at}">{text}</div><div>____<br>Noise signature</div></td></tr></table>'
        for at, text in enumerate((QUESTION, FIRST, SECOND))),
    "vBulletin 4": '<span class="threadtitle"><a>Colour of the sky</a></span><ol id="posts">' + "".join(
        f'<li class="postbit postcontainer"><div class="userinfo">NoiseUser</div><div class="postbody"><div class="content"><blockquote class="postcontent restore">{text}</blockquote></div>'
        '<blockquote class="signature restore">Noise signature</blockquote></div></li>' for text in (QUESTION, FIRST, SECOND)) + "</ol>",
    "XenForo": '<h1 class="p-title-value">Colour of the sky</h1>' + "".join(
        f'<article class="message message--post"><div class="message-user">NoiseUser</div><div class="message-body"><div class="bbWrapper">{text}</div></div><aside class="message-signature"><div class="bbWrapper">'
        'Noise signature</div></aside></article>' for text in (QUESTION, FIRST, SECOND)),
    "SMF": '<h5 id="subject_1">Noise</h5>' + "".join(f'<div class="post_wrapper"><div class="poster">NoiseUser</div><div class="postarea"><div class="post"><div class="inner" id="msg_{at}">{text}</div></div>'
        '<div class="moderatorbar"><div class="signature">Noise signature</div></div></div></div>' for at, text in enumerate((QUESTION, FIRST, SECOND))),
    "GitHub": '<h1><bdi class="js-issue-title markdown-title">Colour of the sky</bdi> <span>#3</span></h1>' + "".join(
        f'<div class="timeline-comment"><h3>NoiseUser commented</h3><div class="edit-comment-hide"><table><tr><td class="d-block comment-body markdown-body js-comment-body"><p>{text}</p></td></tr></table></div>'
        '<div class="comment-reactions">Noise 3</div></div>' for text in (QUESTION, FIRST, SECOND)),
}  # fmt: skip


def page(body: str) -> str:
    return f"<html><head><title>Colour of the sky - Noise Forum</title></head><body><div id='nav'><a href='/'>Noise home</a></div>{body}<div id='footer'>Noise footer</div></body></html>"


def test_stack_exchange() -> None:
    assert extract_html(page(STACK_EXCHANGE), "") == (
        f"# Colour of the sky\n\n{QUESTION}\n\n---\n\n## Answer\n\n{FIRST}\n\n## Comment\n\n{REPLY}\n\n---\n\n## Answer\n\n{SECOND}"
    )


@pytest.mark.parametrize("name", FLAT)
def test_flat_forums(name: str) -> None:
    expected = f"# Colour of the sky\n\n{QUESTION}\n\n---\n\n{FIRST}\n\n---\n\n{SECOND}"
    assert extract_html(page(FLAT[name]), "") == expected


TREE = f"# Colour of the sky\n\n{QUESTION}\n\n## Comment\n\n{FIRST}\n\n### Reply\n\n{REPLY}\n\n## Comment\n\n{SECOND}"


def test_hacker_news() -> None:
    def comment(depth: int, text: str) -> str:
        return (
            f'<tr class="athing comtr"><td><table><tr><td class="ind" indent="{depth}"><img src="s.gif" width="{40 * depth}"></td><td class="votelinks"></td>'
            f'<td class="default"><span class="comhead"><a class="hnuser">NoiseUser</a></span><div class="comment"><div class="commtext c00">{text}</div>'
            '<div class="reply"><a>reply</a></div></div></td></tr></table></td></tr>'
        )

    story = f'<table class="fatitem"><tr class="athing"><td class="title"><span class="titleline"><a href="x">Colour of the sky</a></span></td></tr><tr><td><div class="toptext">{QUESTION}</div></td></tr></table>'
    comments = f'<table class="comment-tree">{comment(0, FIRST)}{comment(1, REPLY)}{comment(0, SECOND)}</table>'
    assert extract_html(page(story + comments), "") == TREE


def test_old_reddit() -> None:
    def thing(text: str, child: str = "") -> str:
        return (
            f'<div class="thing comment"><div class="midcol"></div><div class="entry"><p class="tagline"><a class="author">NoiseUser</a> 5 points</p><form class="usertext"><div class="usertext-body"><div class="md"><p>{text}</p>'
            f'</div></div></form><ul class="flat-list buttons"><li>Noise permalink</li></ul></div><div class="child">{child}</div></div>'
        )

    side = '<div class="side"><div class="usertext-body"><div class="md"><p>Noise rules.</p></div></div></div>'
    post = f'<div class="thing link"><div class="entry"><p class="title"><a class="title may-blank">Colour of the sky</a></p><div class="expando"><div class="usertext-body"><div class="md"><p>{QUESTION}</p></div></div></div></div></div>'
    body = side + post + f'<div class="commentarea">{thing(FIRST, thing(REPLY))}{thing(SECOND)}</div>'
    assert extract_html(page(body), "") == TREE


def test_new_reddit() -> None:
    def comment(depth: int, text: str, child: str = "") -> str:
        return f'<shreddit-comment author="NoiseUser" depth="{depth}"><div slot="commentMeta">NoiseUser</div><div slot="comment"><p>{text}</p></div>{child}</shreddit-comment>'

    post = (
        f'<shreddit-post post-title="Colour of the sky"><div slot="text-body"><p>{QUESTION}</p></div></shreddit-post>'
    )
    assert extract_html(page(post + comment(0, FIRST, comment(1, REPLY)) + comment(0, SECOND)), "") == TREE


def test_zhihu() -> None:
    answers = "".join(
        f'<div class="List-item"><div class="ContentItem AnswerItem"><div class="AuthorInfo">NoiseUser</div><div class="RichContent"><span class="RichText ztext"><p>{text}</p></span>'
        '<div class="ContentItem-actions">赞同 12</div></div></div></div>'
        for text in (FIRST, SECOND)
    )
    question = f'<h1 class="QuestionHeader-title">Colour of the sky</h1><div class="QuestionRichText"><span class="RichText ztext">{QUESTION}</span></div>'
    assert extract_html(page(question + answers), "") == (
        f"# Colour of the sky\n\n{QUESTION}\n\n---\n\n## Answer\n\n{FIRST}\n\n---\n\n## Answer\n\n{SECOND}"
    )


def test_gitlab() -> None:
    def note(text: str) -> str:
        return f'<li class="note"><div class="note-header">NoiseUser</div><div class="note-body"><div class="note-text md"><p>{text}</p></div></div></li>'

    description = f'<div class="detail-page-description"><h1 class="title">Colour of the sky</h1><div class="description"><div class="md"><p>{QUESTION}</p></div></div></div>'
    expected = f"# Colour of the sky\n\n{QUESTION}\n\n---\n\n{FIRST}\n\n---\n\n{SECOND}"
    assert extract_html(page(f"{description}<ul>{note(FIRST)}{note(SECOND)}</ul>"), "") == expected


def test_comments_of_wordpress() -> None:
    post = f'<article class="hentry post"><h1>Colour of the sky</h1><div class="entry-content"><p>{QUESTION}</p></div></article>'
    comment = f'<li class="comment"><article class="comment-body"><footer class="comment-meta"><b class="fn">NoiseUser</b> says:</footer><div class="comment-content"><p>{FIRST}</p></div><div class="reply"><a>Noise</a></div></article></li>'
    html = page(f'<main>{post}<div id="comments" class="comments-area"><h2>1 noise</h2><ol>{comment}</ol></div></main>')
    assert extract(html, comments=True).text == f"# Colour of the sky\n\n{QUESTION}\n\n## Comment\n\n{FIRST}"


def test_a_blog_is_no_forum() -> None:
    post = f'<article class="post"><h1>Colour of the sky</h1><div class="content"><p>{QUESTION}</p><p>{FIRST}</p></div></article>'
    comments = f'<div id="comments"><ol><li><cite>NoiseUser</cite><div class="comment-content"><p>{SECOND}</p></div></li></ol></div>'
    assert (
        extract(page(post + comments), comments=True).text
        == f"# Colour of the sky\n\n{QUESTION}\n\n{FIRST}\n\n## Comment\n\n{SECOND}"
    )


PARAGRAPHS = "".join(f"<p>{number}. {text}</p>" for number in range(3) for text in (QUESTION, FIRST, SECOND))


def test_comments_of_a_forum_family_do_not_hide_the_article() -> None:
    comments = "".join(f'<div class="comment_text"><p>{text}</p></div>' for text in (REPLY, "I agree with all of it."))
    html = page(f"<article><h1>Colour of the sky</h1>{PARAGRAPHS}</article><div id=c>{comments}</div>")
    article, *remarks = extract(html, comments=True).text.split("\n\n## Comment\n\n")
    assert FIRST in article and SECOND in article and remarks == [REPLY, "I agree with all of it."]
    assert extract_html(html, "") == article == extract(html, comments=False).text


def test_a_quoted_post_stays_in_its_article() -> None:
    quoted = f'<div class="postbody"><div class="content"><p>{REPLY}</p></div></div>'
    text = extract_html(page(f"<main><article><h1>Colour of the sky</h1>{quoted}{PARAGRAPHS}</article></main>"), "")
    assert text.index(REPLY) < text.index(SECOND) and FIRST in text


def test_several_quoted_posts_stay_in_their_article() -> None:
    quoted = [f'<div class="postbody"><div class="content"><p>{text}</p></div></div>' for text in (REPLY, FIRST)]
    article = f"<h1>Colour of the sky</h1>{quoted[0]}{PARAGRAPHS}{quoted[1]}{PARAGRAPHS}"
    text = extract_html(page(f"<main><article>{article}</article></main>"), "")
    assert REPLY in text and text.count(FIRST) == 7


def test_teasers_with_the_class_of_a_post_are_no_thread() -> None:
    teasers = "".join(
        f'<div class="cooked"><h2>Noise about subject {at}, a headline of some length</h2></div>' for at in range(40)
    )
    text = extract_html(page(f"<article><h1>Colour of the sky</h1>{PARAGRAPHS}</article><div>{teasers}</div>"), "")
    assert SECOND in text and "Noise" not in text


@pytest.mark.parametrize(("paragraphs", "is_kept"), [(1, True), (30, False)])
def test_comments_stay_under_a_short_text_alone(paragraphs: int, is_kept: bool) -> None:
    article = f"<article><h1>Colour of the sky</h1>{f'<p>{QUESTION}</p>' * paragraphs}</article>"
    comments = "".join(f'<div class="comment-content"><p>{number}. {SECOND}</p></div>' for number in range(200))
    assert (f"199. {SECOND}" in extract_html(page(f"{article}<div id=comments>{comments}</div>"), "")) == is_kept


def test_comments_go_where_the_page_declares_an_article() -> None:
    comments = "".join(f'<div class="comment-content"><p>{number}. {SECOND}</p></div>' for number in range(20))
    body = f"<h1>Colour of the sky</h1><p>{QUESTION}</p><div id=comments>{comments}</div>"
    assert f"19. {SECOND}" in extract_html(page(body), "")
    declared = page(body).replace("<head>", '<head><meta property="og:type" content="article">')
    assert SECOND not in extract_html(declared, "")
    assert f"19. {SECOND}" in extract(declared, comments=True).text


def test_one_post_in_a_declared_article_is_a_part_of_it() -> None:
    remarks = f'<div class="postcontent">{f"<p>{FIRST}</p>" * 30}</div>'
    html = page(f"<div><h1>Colour of the sky</h1><p>{QUESTION}</p><p>{SECOND}</p></div>{remarks}")
    declared = html.replace("<head>", '<head><meta property="og:type" content="article">')
    assert extract(declared).kind == "page" and QUESTION in extract_html(declared, "")


def test_a_file_beside_remarks_stays() -> None:
    lines = "".join(
        f'<tr><td class="blob-num" data-line-number="{at}"></td><td class="blob-code blob-code-inner">{line}</td></tr>'
        for at, line in enumerate(("int f() {", "  return 1;", "}"), start=1)
    )
    remark = f'<div class="timeline-comment"><div class="comment-body">{FIRST}</div></div>'
    text = extract_html(page(f'<h1>f.c</h1><table class="highlight">{lines}</table>{remark}'), "")
    assert "```\nint f() {\n  return 1;\n}\n```" in text
