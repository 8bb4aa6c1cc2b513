"""From a page to Markdown: parse, mark formulas and code, find the thread or the main content, write."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.comments import take_comments
from megatron_mimo.data.extract.dom import all_classes, drop, parse, text_of
from megatron_mimo.data.extract.edges import trim_edges
from megatron_mimo.data.extract.forums import Post, Thread, find_thread
from megatron_mimo.data.extract.main_content import main_content
from megatron_mimo.data.extract.markdown import block_texts, inline_markdown, to_markdown
from megatron_mimo.data.extract.notebooks import is_notebook, mark_cells

_TITLE_SEPARATORS = re.compile(r"\s+[|·•–—»:-]\s+|\s*[_|]\s*")
_DEEPEST_HEADING = 6


def extract_html(html: str, url: str) -> str:
    """The main text of a page as Markdown with TeX; empty when it has none. Never raises on any string.

    `url` is the page's address; nothing in the result depends on it yet but which site it names.
    """
    root = parse(html)
    if root is None:
        return ""
    title = _head_title(root)
    body = root.find("body")
    body = root if body is None else body
    mark_atoms(body)
    present = all_classes(body)
    thread = find_thread(body, present)
    text = _write_thread(thread, body, title) if thread is not None else _write_page(body, present, title)
    return text.strip("\n")


def _head_title(root: etree._Element) -> str:
    """What the page calls itself in its head, with the site's name."""
    for meta in root.iter("meta"):
        if meta.get("property") == "og:title" and (meta.get("content") or "").strip():
            return " ".join((meta.get("content") or "").split())
    title = next(root.iter("title"), None)
    return " ".join(text_of(title).split()) if title is not None else ""


def _write_page(body: etree._Element, present: set[str], title: str) -> str:
    if is_notebook(present):
        mark_cells(body)
    headings = list(body.iter("h1"))
    texts = [inline_markdown(heading) for heading in headings]
    heading = _page_heading(texts, title)
    for site_name in headings[: texts.index(heading)] if heading else []:
        drop(site_name)
    comments = [to_markdown(comment) for comment in take_comments(body, present)]
    content = main_content(body)
    text = "\n\n".join(
        [*trim_edges(block_texts(content)), *(f"## Comment\n\n{comment}" for comment in comments if comment)]
    )
    if heading and heading not in text[: len(heading) + 2000]:
        return f"# {heading}\n\n{text}"
    return text


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


def _write_thread(thread: Thread, body: etree._Element, title: str) -> str:
    heading = thread.title or _page_heading([inline_markdown(element) for element in body.iter("h1", "h2")], title)
    heading = heading or _TITLE_SEPARATORS.split(title)[0].strip()
    parts = [f"# {heading}"] if heading else []
    for at, post in enumerate(thread.posts):
        text = to_markdown(post.body)
        if text:
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
