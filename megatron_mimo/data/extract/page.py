"""From a page to Markdown: parse, mark formulas and code, find the thread or judge the blocks, write what stays."""

import re
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urljoin

import lxml.etree as etree
import numpy as np

from megatron_mimo.data.encoding import decode
from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.block_features import features
from megatron_mimo.data.extract.block_model import BlockModel, block_model
from megatron_mimo.data.extract.blocks import Blocks, find_blocks
from megatron_mimo.data.extract.choose import Favor, Verdict, choose
from megatron_mimo.data.extract.comments import take_comments
from megatron_mimo.data.extract.dom import all_classes, clean, drop, parse
from megatron_mimo.data.extract.forums import Post, Thread, are_comments, dominates, find_thread
from megatron_mimo.data.extract.head import Head, read_head
from megatron_mimo.data.extract.markdown import inline_markdown, to_markdown
from megatron_mimo.data.extract.notebooks import is_notebook, mark_cells

_TITLE_SEPARATORS = re.compile(r"\s+[|·•–—»:-]\s+|\s*[_|]\s*")
_SIGNATURE = re.compile(r"<!--[^>]{0,80}(?:generated|created)\s+(?:by|with|using)\s+([^>]{3,80}?)\s*-->", re.IGNORECASE)
_SIGNATURE_CHARACTERS = 3000
"""So far from the start a comment may name the program that wrote the page, as Javadoc's and Texinfo's do."""
_DEEPEST_HEADING = 6
_LEAST_SHARE_OF_COMMENTS = 0.6
_SHORT_ARTICLE_CHARACTERS = 1000
"""What is shorter, has more comments than text and is not declared an article is a question that others answer."""
_LEAST_SHARE_OF_DATA = 0.3
"""A page with less text than this share of what its linked data calls the article's body does not show it."""

Kind = Literal["page", "thread", "notebook", "empty"]


@dataclass(frozen=True)
class Link:
    """A link in the main text."""

    text: str
    url: str


@dataclass(frozen=True)
class Extraction:
    """What is known of a page; empty texts where it says nothing."""

    text: str
    """Markdown with TeX."""
    title: str = ""
    author: str = ""
    date: str = ""
    """`YYYY-MM-DD`, as the page declares it."""
    language: str = ""
    """As the page declares it, such as `de`."""
    links: list[Link] = field(default_factory=list)
    """In the main text, in its order, absolute where the page's address is known."""
    kind: Kind = "page"


@dataclass(slots=True)
class Part:
    """A piece of the page and what became of it: for whoever asks why."""

    tag: str
    text: str
    is_kept: bool
    reason: str
    logit: float | None = None
    """The model's word with what the structure added; None where it was not asked."""


class Labeller(Protocol):
    """A second judge of blocks, such as `block_labeller.BlockLabeller`."""

    def logits(self, found: Blocks, head: Head) -> np.ndarray:
        """[num_blocks]: above 0 where a block is rather matter than frame."""
        ...


@dataclass(slots=True)
class Options:
    """How a page is read; see `extract`."""

    favor: Favor = "balanced"
    comments: bool | None = None
    headline: bool | None = None
    model: BlockModel | None = None
    labeller: Labeller | None = None


@dataclass
class Page:
    """A page on its way: `parts` and `links` are filled where they are wanted (not None)."""

    options: Options
    head: Head = field(default_factory=Head)
    kind: Kind = "empty"
    text: str = ""
    title: str = ""
    parts: list[Part] | None = None
    links: list[etree._Element] | None = None

    def note(self, tag: str, text: str, is_kept: bool, reason: str, logit: float | None = None) -> None:
        """Remember a part where the caller asked for them."""
        if self.parts is not None:
            self.parts.append(Part(tag, text, is_kept, reason, logit))


def extract_html(html: str, url: str) -> str:
    """The main text of a page as Markdown with TeX; empty when it has none. Never raises on any string.

    `url` is the page's address; nothing in the text depends on it.
    """
    return read_page(html, Page(Options())).text


def extract(
    html: str | bytes,
    url: str = "",
    *,
    favor: Favor = "balanced",
    comments: bool | None = None,
    headline: bool | None = None,
    content_type: str = "",
    labeller: Labeller | None = None,
) -> Extraction:
    """The main text of a page, and what the page says of itself.

    `html` may be bytes: they are decoded as a browser would, with `content_type` as the HTTP header. `favor` moves the
    bar between leaving frame in and losing matter. `comments` keeps what readers wrote: under an article as
    `## Comment` sections, in threads of question sites the comments under posts. None keeps them in threads, and under
    a text only where it is short and they are most of the page. `headline` keeps the page's title as a heading above
    the text; None leaves it to `Extraction.title` alone where the page declares itself an article, as hand-made truths
    of articles do. `labeller` is a second judge of blocks: its logits are averaged with the block model's. Never raises
    on any page.
    """
    text = decode(html, content_type) if isinstance(html, bytes) else html
    page = read_page(text, Page(Options(favor, comments, headline, labeller=labeller), links=[]))
    head = page.head
    links = [Link(" ".join("".join(a.itertext()).split()), _absolute(url, a.get("href", ""))) for a in page.links or []]
    return Extraction(page.text, page.title or head.title, head.author, head.date, head.language, links, page.kind)


def explain(html: str, options: Options | None = None) -> Page:
    """The page with a `Part` for each of its blocks: what was kept and removed, and by which rule."""
    return read_page(html, Page(options or Options(), parts=[]))


def read_page(html: str, page: Page) -> Page:
    """Fill a page from its HTML."""
    root = parse(html)
    if root is None:
        return page
    page.head = read_head(root)
    signature = _SIGNATURE.search(html, 0, _SIGNATURE_CHARACTERS)
    if signature is not None:
        page.head.names.setdefault("generator", signature.group(1))
    body = root.find("body")
    body = root if body is None else body
    mark_atoms(body)
    present = all_classes(body)
    thread = find_thread(body, present)
    is_quotation = thread is not None and len(thread.posts) == 1 and page.head.is_article
    if thread is not None and not is_quotation and dominates(thread, body):
        page.kind, text = "thread", _write_thread(thread, body, page)
    else:
        page.kind, text = "page", _write_page(body, present, thread, page)
    page.text = text.strip("\n")
    if not page.text:
        page.kind = "empty"
    return page


def _absolute(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference.strip())
    except ValueError:
        return reference


def _write_page(body: etree._Element, present: set[str], thread: Thread | None, page: Page) -> str:
    if is_notebook(present):
        page.kind = "notebook"
        mark_cells(body)
    comments = take_comments(body, present)
    if thread is not None and len(thread.posts) > 1 and not comments and are_comments(thread, body):
        comments = _take_posts(thread)
    headings = list(body.iter("h1"))
    titles = [inline_markdown(heading) for heading in headings]
    heading = page.title = _page_heading(titles, page.head.title)
    for site_name in headings[: titles.index(heading)] if heading else []:
        page.note("h1", "".join(site_name.itertext()), False, "heading before the page's title")
        drop(site_name)
    _judge(body, page)
    has_headline = page.options.headline or (page.options.headline is None and not page.head.is_article)
    if heading and not has_headline:
        for element in [node for node in body.iter("h1") if inline_markdown(node) == heading]:
            page.note("h1", heading, False, "headline: the title holds it")
            drop(element)
    text = to_markdown(body)
    _note_links(body, page)
    if len(text) < _LEAST_SHARE_OF_DATA * len(page.head.body):
        text = page.head.body
        page.note("script", text, True, "the article as linked data: the page draws it by program")
    if heading and (has_headline or not text) and heading not in text[: len(heading) + 2000]:
        text = f"# {heading}\n\n{text}"
    sections = [to_markdown(comment) for comment in comments]
    is_kept = page.options.comments
    if is_kept is None:
        size = sum(map(len, sections))
        is_short = len(text) < _SHORT_ARTICLE_CHARACTERS and not page.head.is_article
        is_kept = is_short and size >= _LEAST_SHARE_OF_COMMENTS * (len(text) + size)
    for section in sections:
        page.note("comment", section, is_kept, "comment")
    if not is_kept:
        return text
    return "\n\n".join([text, *(f"## Comment\n\n{section}" for section in sections if section)])


def _judge(body: etree._Element, page: Page) -> None:
    """Drop the blocks that are no matter."""
    found = find_blocks(body)
    if not found.blocks:
        return
    model = page.options.model or block_model()
    logits = model.logits(features(found, page.head, model.names))
    if page.options.labeller is not None:
        logits = (logits + page.options.labeller.logits(found, page.head)) / 2
    for block, verdict in zip(
        found.blocks, choose(found, logits, page.head, model.names, page.options.favor), strict=True
    ):
        _note(page, block.element, block.text, verdict)
        if not verdict.is_kept:
            drop(block.element)


def _note(page: Page, element: etree._Element, text: str, verdict: Verdict) -> None:
    if page.parts is not None:
        page.note(str(element.tag), text, verdict.is_kept, verdict.reason, verdict.logit)


def _note_links(element: etree._Element, page: Page) -> None:
    if page.links is not None:
        page.links.extend(a for a in element.iter("a") if a.get("href") and "".join(a.itertext()).strip())


def _take_posts(thread: Thread) -> list[etree._Element]:
    """Take posts that are comments below an article out of the page."""
    taken = []
    for post in thread.posts:
        copy = etree.Element("div")
        copy.text = clean(post.body.text or "")
        copy.extend(list(post.body))
        drop(post.body)
        taken.append(copy)
    return taken


def _page_heading(headings: list[str], title: str) -> str:
    """The heading that the page's title repeats: others may be the site's name."""
    plain = " ".join(title.split())
    parts = [part.strip() for part in _TITLE_SEPARATORS.split(plain)]
    for heading in headings:
        if heading and (
            heading == plain or heading == parts[0] or (len(heading) > 20 and plain.startswith(heading[:40]))
        ):
            return heading
    return ""


def _write_thread(thread: Thread, body: etree._Element, page: Page) -> str:
    title = page.head.title
    heading = thread.title or _page_heading([inline_markdown(element) for element in body.iter("h1", "h2")], title)
    heading = page.title = heading or _TITLE_SEPARATORS.split(title)[0].strip()
    parts = [f"# {heading}"] if heading else []
    for at, post in enumerate(thread.posts):
        is_kept = page.options.comments is not False or not (post.kind == "comment" and thread.has_answers())
        text = to_markdown(post.body) if is_kept else ""
        page.note(post.kind, " ".join("".join(post.body.itertext()).split()), bool(text), "post of a thread")
        if text:
            _note_links(post.body, page)
            parts.append(_post_mark(post, is_first=at == 0) + text)
    return "\n\n".join(parts)


def _post_mark(post: Post, is_first: bool) -> str:
    """What stands before a post: a rule and, where posts differ in kind or depth, a heading that says so."""
    if (is_first and post.kind in ("question", "post")) or (is_first and post.depth == 0):
        return ""
    if post.kind == "answer":
        return "---\n\n## Answer\n\n"
    if post.kind == "comment":
        level = min(1 + max(post.depth, 1), _DEEPEST_HEADING)
        return f"{'#' * level} {'Comment' if post.depth <= 1 else 'Reply'}\n\n"
    return "---\n\n"
