# ruff: noqa: E501 - tables of names and patterns read best in rows
"""Forums: the posts of a thread in order, without votes, signatures and user cards.

A family is a row of a table: which classes hold a post, and which inside it hold what was written. Everything around
the written text is left behind, so nothing has to be recognised as noise.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, DROPPED, all_ids, descendants, drop, first, has_class, text_of
from megatron_mimo.data.extract.sentences import SENTENCE_END
from megatron_mimo.data.extract.words import words


@dataclass(frozen=True)
class Family:
    """One kind of forum software."""

    name: str
    bodies: frozenset[str]
    """Classes of the elements that hold what was written, one a post."""
    titles: tuple[str, ...] = ()
    within: frozenset[str] = frozenset()
    """When given, a body counts only inside an element with one of these classes."""
    noise: frozenset[str] = frozenset()
    """Classes inside a body that are no part of the text."""
    is_questions: bool = False
    """The first post is a question, the others answers to it."""
    nesting: frozenset[str] = frozenset()
    """Classes of the elements whose nesting tells a reply's depth."""
    least_posts: int = 1


@dataclass(frozen=True)
class Post:
    """What one person wrote: `kind` is question, answer, comment or post; `depth` counts from 0."""

    body: etree._Element
    kind: str = "post"
    depth: int = 0


@dataclass(frozen=True)
class Thread:
    """A page of posts in the order of the page."""

    title: str
    posts: list[Post]

    def has_answers(self) -> bool:
        """Whether it is a question with answers: comments are remarks on them there."""
        return any(post.kind in ("question", "answer") for post in self.posts)


_NOISE = words(
    """signature sig js-post-notice post-signature edited-by lastedited postfoot post-menu editdate editby cite-meta quotetop notice rep_bubble
    message-signature topic-meta-data post_sig smf_signature onebox-metadata lightbox-meta cooked-selection-barrier quote-controls
    bbCodeBlock-expandLink attachbox message-lastEdit bbcode_description codeheader edit-history poster-info js-selectToQuote informational
    gallery-icons moderatorbar modified keyinfo reportlinks"""
)
_FAMILIES = (
    Family("stack exchange", words("s-prose post-text js-post-body"), ("question-hyperlink",), words("question answer"), is_questions=True),
    Family("discourse", words("cooked"), ("fancy-title", "topic-title")),
    Family("discourse, for crawlers", words("post"), ("topic-title",), words("crawler-post")),
    Family("vbulletin 4", words("postcontent"), ("threadtitle",)),
    Family("phpbb 3", words("content"), ("topic-title",), words("postbody")),
    Family("xenforo", words("bbWrapper messageText"), ("p-title-value",)),
    Family("vbulletin 5", words("js-post__content-text"), ("main-title",)),
    Family("mybb", words("post_body"), ("thread_subject",)),
    Family("flarum", words("Post-body"), ("DiscussionHero-title",)),
    Family("aops", words("cmty-post-html"), ("cmty-topic-subject",)),
    Family("hacker news", words("toptext commtext"), ("titleline", "storylink"), noise=words("reply")),
    Family("reddit, old", words("md"), ("a.title", "p.title"), words("entry"), nesting=words("comment")),
    Family("github", words("comment-body js-comment-body"), ("js-issue-title", "markdown-title", "gh-header-title"),
           words("timeline-comment js-timeline-item js-comment-container TimelineItem js-discussion")),
    Family("gitlab", words("md"), ("h1.title",), words("description note-body")),
    Family("zhihu", words("RichText"), ("QuestionHeader-title",), words("AnswerItem QuestionRichText"), is_questions=True),
    Family("lobsters", words("comment_text story_text"), ("u-url",), words("comment story_content"), nesting=words("comments")),
    Family("invision", words("ipsType_richText"), ("ipsType_pageTitle",), words("ipsComment cPost")),
    Family("phpbb 2", words("postbody"), ("maintitle",)),
)  # fmt: skip
_BODY_IDS = re.compile(r"^(?:post_message_\d+|msg_\d+|post-?message-?\d+)$")
_ELEMENT_POSTS = frozenset(("shreddit-post", "shreddit-comment"))
_SPACER_PIXELS = 40
_COMMENTS = frozenset(("comment-copy",))
_LEAST_SHARE_OF_POSTS = 0.4
_LITTLE_PROSE_CHARACTERS = 60
_SENTENCE_CHARACTERS = 40
_LINES_OF_FILE = 3
_MOST_PROSE_AFTER_COMMENTS = 0.3
_FOLLOWING = etree.XPath("following::text()", smart_strings=False)


def find_thread(body: etree._Element, present: set[str]) -> Thread | None:
    """The thread on a forum's page, or None when the page is something else; `present` holds all its classes."""
    thread = _reddit(body) or _by_family(body, present) or _by_ids(body)
    if thread is None:
        return None
    for post in thread.posts:
        post.body.tag = "div"
        for element in list(descendants(post.body, *_NOISE)):
            if element.tag != DROPPED:
                drop(element)
    return thread


def dominates(thread: Thread, body: etree._Element) -> bool:
    """Whether the posts are what the page is about, rather than comments below an article or a quotation in it."""
    if _shows_code_beside(thread, body):
        return False
    inside = sum(_written_characters(post.body) for post in thread.posts)
    outside = _prose_outside(thread, body)
    return inside >= _LEAST_SHARE_OF_POSTS * (inside + outside) or outside < _LITTLE_PROSE_CHARACTERS


def are_comments(thread: Thread, body: etree._Element) -> bool:
    """Whether the posts follow an article and are written text, rather than stand quoted in it or tease others."""
    written = sum(_written_characters(post.body) for post in thread.posts)
    if written < _LEAST_SHARE_OF_POSTS * sum(len(text_of(post.body)) for post in thread.posts):
        return False
    after = sum(_prose_characters(str(text)) for text in _FOLLOWING(thread.posts[-1].body))  # type: ignore[union-attr]
    return after < _MOST_PROSE_AFTER_COMMENTS * _prose_outside(thread, body)


def _prose_outside(thread: Thread, body: etree._Element) -> int:
    inside = sum(_prose_characters(text) for post in thread.posts for text in post.body.itertext())
    return sum(map(_prose_characters, body.itertext())) - inside


def _written_characters(element: etree._Element) -> int:
    """Characters that stand in no link and no heading: those alone make a teaser."""
    named = sum(len(text_of(node).strip()) for node in element.iter("a", "h1", "h2", "h3", "h4", "h5", "h6"))
    return max(0, sum(len(text.strip()) for text in element.itertext()) - named)


def _shows_code_beside(thread: Thread, body: etree._Element) -> bool:
    """Whether lines of code stand outside the posts: a file, and remarks on it."""
    inside = {code for post in thread.posts for code in post.body.iter(CODE)}
    return any(code not in inside and (code.text or "").count("\n") >= _LINES_OF_FILE - 1 for code in body.iter(CODE))


def _prose_characters(text: str) -> int:
    """Characters of a text node that reads like sentences or holds lines of code."""
    if len(text) < _SENTENCE_CHARACTERS:
        return 0
    return len(text) if "\n" in text.strip() or SENTENCE_END.search(text) else 0


def _by_family(body: etree._Element, present: set[str]) -> Thread | None:
    for family in _FAMILIES:
        if family.bodies.isdisjoint(present) or (family.within and family.within.isdisjoint(present)):
            continue
        posts = list(_posts(family, body))
        if len(posts) >= family.least_posts and posts:
            return Thread(_title(body, family.titles), posts)
    return None


def _ancestors(element: etree._Element, names: frozenset[str]) -> int:
    return sum(has_class(ancestor, names) for ancestor in element.iterancestors())


def _posts(family: Family, body: etree._Element) -> Iterator[Post]:
    number = 0
    for element in list(descendants(body, *family.bodies, *_COMMENTS)):
        if family.is_questions and has_class(element, _COMMENTS):
            yield Post(element, "comment", 1)
            continue
        if not has_class(element, family.bodies) or _ancestors(element, family.bodies | _NOISE):
            continue
        if family.within and not _ancestors(element, family.within):
            continue
        if not text_of(element).strip():
            continue
        for child in list(descendants(element, *family.noise)) if family.noise else ():
            drop(child)
        yield Post(element, _kind(family, number), _depth(family, element))
        number += 1


def _kind(family: Family, number: int) -> str:
    if family.is_questions:
        return "question" if number == 0 else "answer"
    return "comment" if family.nesting or family.name == "hacker news" else "post"


def _depth(family: Family, element: etree._Element) -> int:
    if family.name == "hacker news":
        return _indentation(element)
    return _ancestors(element, family.nesting) if family.nesting else 0


def _indentation(element: etree._Element) -> int:
    """Depth of a Hacker News comment: the story's own text is 0, its comments start at 1."""
    if has_class(element, frozenset(("toptext",))):
        return 0
    row = next((node for node in element.iterancestors("tr") if has_class(node, frozenset(("athing", "comtr")))), None)
    cell = first(row, "ind") if row is not None else None
    if cell is None:
        return 1
    value = cell.get("indent") or ""
    if value.isdecimal():
        return 1 + int(value[:4])
    spacer = next(cell.iter("img"), None)
    width = (spacer.get("width") or "") if spacer is not None else ""
    return 1 + (int(width[:6]) // _SPACER_PIXELS if width.isdecimal() else 0)


def _reddit(body: etree._Element) -> Thread | None:
    """New Reddit: custom elements that carry depth and title as attributes."""
    posts: list[Post] = []
    title = ""
    for element in body.iter(*_ELEMENT_POSTS):
        if element.tag == "shreddit-post":
            title = element.get("post-title") or ""
        slots = [child for child in element.iterdescendants() if child.get("slot") in ("comment", "text-body")]
        own = next((slot for slot in slots if next(slot.iterancestors(*_ELEMENT_POSTS)) is element), None)
        if own is not None:
            depth = element.get("depth") or ""
            is_comment = element.tag == "shreddit-comment"
            posts.append(
                Post(
                    own,
                    "comment" if is_comment else "post",
                    1 + int(depth[:3]) if depth.isdecimal() else int(is_comment),
                )
            )
    return Thread(title, posts) if posts else None


def _by_ids(body: etree._Element) -> Thread | None:
    """vBulletin 3 and SMF number the element that holds a post."""
    if not any(map(_BODY_IDS.match, all_ids(body))):
        return None
    posts = [
        Post(element)
        for element in body.iterdescendants("div", "td", "blockquote")
        if element.get("id") and _BODY_IDS.match(element.get("id", ""))
    ]
    return Thread("", posts) if posts else None


def _title(body: etree._Element, names: tuple[str, ...]) -> str:
    for name in names:
        tag, _, name = name.rpartition(".")
        element = next((node for node in descendants(body, name) if tag in ("", node.tag)), None)
        if element is not None:
            text = " ".join(text_of(element).split())
            if text:
                return text
    return ""
