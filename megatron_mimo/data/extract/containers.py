# ruff: noqa: E501 - tables of names and patterns read best in rows
"""Which element holds the matter: names that families of sites use, then what the HTML standard offers."""

import re
from collections.abc import Iterator

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, FORMULA, all_classes, all_ids, class_names, text_of
from megatron_mimo.data.extract.sizes import Size
from megatron_mimo.data.extract.words import words

_IDS = (
    "content_views", "cnblogs_post_body", "mw-content-text", "article_content", "js_content", "articleContent", "revision",
    "wikiArticle", "bodyContent",
)  # fmt: skip
_CLASSES = (
    "markdown_views", "htmledit_views", "blogpost-body", "mw-parser-output", "Post-RichTextContainer", "article-viewer", "show-content",
    "theme-doc-markdown", "md-content__inner", "ltx_document", "ltx_page_content", "postArticle-content", "available-content",
    "blob-wrapper", "markdown-body", "entry-content", "post-content", "article-content", "article-body", "article__body", "story-body", "post-body",
    "entry-body", "rst-content", "td-content", "devsite-article-body", "blog-content", "post__content", "article-text", "e-content",
    "vp-doc", "sphinx-content", "bd-article", "notion-page-content", "rich_media_content", "post-entry", "single-content",
    "article_body", "articleBody", "content-body", "page-content", "postbody-content", "js-article-content", "wiki-content",
)  # fmt: skip
_SHARE_OF_KNOWN = 0.2
_SHARE_OF_STANDARD = 0.4
_LEAST_WEIGHT = 80
_SHARE_OF_NARROWED = 0.6
_GROWTH = 1.5
_SPILL_GROWTH = 3.0
_BOXES = words("div main article section td center body tr table tbody form")
_LEAST_SENTENCE = 45
_SENTENCE_ENDS = re.compile(r"\w[.!?](?:\s|$)|[。！？]")
_PLAIN = frozenset(("p", "ul", "ol", "blockquote", CODE, FORMULA))


def known_container(body: etree._Element, sizes: dict[etree._Element, Size]) -> etree._Element | None:
    """The container of a site family we know, when it holds enough of the page."""
    whole = sizes[body].weight
    wanted_ids, wanted = all_ids(body).intersection(_IDS), all_classes(body).intersection(_CLASSES)
    found: dict[str, list[etree._Element]] = {}
    for element in sizes:
        identifier = element.get("id")
        if identifier in wanted_ids:
            found.setdefault(identifier, []).append(element)
        names = element.get("class")
        if names:
            for name in wanted.intersection(names.split()):
                found.setdefault(name, []).append(element)
    for name in (*_IDS, *_CLASSES):
        elements = found.get(name, [])
        if len(elements) == 1 and _is_enough(sizes[elements[0]], whole, _SHARE_OF_KNOWN):
            return _climb(elements[0], sizes)
    return None


def _climb(container: etree._Element, sizes: dict[etree._Element, Size]) -> etree._Element:
    """A parent that has the title too, or text that a stray end tag spilled out of the container."""
    best, limit = container, _GROWTH * sizes[container].weight
    for node in container.iterancestors():
        if node not in sizes or sizes[node].weight > max(limit, _SPILL_GROWTH * sizes[container].weight):
            break
        has_title = container.find(".//h1") is None and node.find(".//h1") is not None
        if (has_title and sizes[node].weight <= limit) or _is_spilled(node, container):
            best = node
    return best


def _is_spilled(parent: etree._Element, container: etree._Element) -> bool:
    """Whether plain paragraphs, lists or code follow the container's branch directly in `parent`."""
    branch = next((child for child in parent if child is container or container in child.iterdescendants()), None)
    if branch is None:
        return False
    return any(node.tag in _PLAIN and not node.get("class") and not node.get("id") for node in branch.itersiblings())


def standard_container(body: etree._Element, sizes: dict[etree._Element, Size]) -> etree._Element:
    """`<main>`, the only large `<article>`, or the body."""
    whole = sizes[body].weight
    mains = [element for element in sizes if element.tag == "main" or element.get("role") == "main"]
    scope = max(mains, key=lambda element: sizes[element].weight, default=body)
    if not _is_enough(sizes[scope], whole, _SHARE_OF_STANDARD):
        scope = body
    articles = [element for element in _articles(scope) if element in sizes]
    best = max(articles, key=lambda element: sizes[element].weight, default=None)
    if best is not None and _is_enough(sizes[best], sizes[scope].weight, 0.7):
        return best
    return scope


def narrow(container: etree._Element, sizes: dict[etree._Element, Size]) -> etree._Element:
    """The part of `container` that holds nearly all of it, as long as what is left outside has no sentences."""
    while True:
        children = [child for child in container if child in sizes and sizes[child].text + sizes[child].atoms]
        best = max(children, key=lambda child: sizes[child].weight, default=None)
        if best is None or best.tag not in _BOXES or sizes[best].weight < _SHARE_OF_NARROWED * sizes[container].weight:
            return container
        if any(_is_matter(child, sizes[child]) for child in children if child is not best):
            return container
        if (container.text or "").strip() or any((child.tail or "").strip() for child in container):
            return container
        container = best


def _is_matter(element: etree._Element, size: Size) -> bool:
    if size.atoms or element.tag in ("h1", "h2", "table", "p") or next(element.iter("h1"), None) is not None:
        return True
    if (
        next(element.iter("ul", "ol"), None) is not None
        and size.links < 0.2 * size.text
        and size.text > _LEAST_SENTENCE
    ):
        return True
    return size.text >= _LEAST_SENTENCE and bool(_SENTENCE_ENDS.search(text_of(element)))


def _articles(scope: etree._Element) -> Iterator[etree._Element]:
    for element in scope.iter("article", "div", "section"):
        if element.tag == "article" or "hentry" in class_names(element):
            yield element


def _is_enough(size: Size, whole: int, share: float) -> bool:
    return size.weight >= _LEAST_WEIGHT and size.weight >= share * whole
