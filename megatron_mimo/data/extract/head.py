"""What a page says of itself: title, author, date, language, and the article's text where it repeats it as data."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import lxml.etree as etree

from megatron_mimo.data.extract.dom import text_of

_MAX_DATA_CHARACTERS = 400_000
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TITLES = ("og:title", "twitter:title", "dc.title", "citation_title")
_AUTHORS = ("author", "article:author", "dc.creator", "citation_author", "parsely-author", "sailthru.author")
_DATES = (
    "article:published_time", "datepublished", "date", "dc.date", "dc.date.issued", "citation_date", "pubdate",
    "parsely-pub-date", "sailthru.date", "publish-date", "publication_date", "og:published_time",
)  # fmt: skip
_TAG = re.compile(r"<[^>]{0,300}>")
_BODIES = re.compile(r"Article|Posting|Report|WebPage|Recipe|Review|Question")
_ARTICLES = re.compile(r"Article\b|BlogPosting")


@dataclass(slots=True)
class Head:
    """Empty texts where the page says nothing."""

    title: str = ""
    author: str = ""
    date: str = ""
    """`YYYY-MM-DD`."""
    language: str = ""
    """A code such as `de`, as the page declares it."""
    description: str = ""
    body: str = ""
    """The article's own text from the page's linked data, in paragraphs."""
    is_article: bool = False
    """Whether the page declares itself one article: `og:type`, or linked data of such a type."""
    names: dict[str, str] = field(default_factory=dict)
    """Every `<meta>` by its name or property in lower case: the first of each."""


def read_head(root: etree._Element) -> Head:
    """Read a parsed page; call it before scripts leave the tree."""
    head = Head()
    for meta in root.iter("meta"):
        name = (meta.get("property") or meta.get("name") or meta.get("itemprop") or "").lower().strip()
        content = " ".join((meta.get("content") or "").split())
        if name and content:
            head.names.setdefault(name, content)
    title = next(root.iter("title"), None)
    head.title = head.names.get("og:title") or (" ".join(text_of(title).split()) if title is not None else "")
    head.title = head.title or _first(head.names, _TITLES)
    author = _first(head.names, _AUTHORS)
    head.author = "" if author.startswith("http") else author
    date = _DATE.search(_first(head.names, _DATES))
    head.date = date.group() if date else ""
    head.is_article = head.names.get("og:type", "").lower() == "article"
    head.description = head.names.get("og:description") or head.names.get("description") or ""
    head.language = (root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or "").split("-")[0]
    head.language = head.language.lower() or head.names.get("og:locale", "")[:2].lower()
    _read_linked_data(root, head)
    if not head.date:
        head.date = next(
            (found.group() for time in root.iter("time") if (found := _DATE.match(time.get("datetime") or ""))), ""
        )
    return head


def _first(names: dict[str, str], wanted: tuple[str, ...]) -> str:
    return next((names[name] for name in wanted if name in names), "")


def _read_linked_data(root: etree._Element, head: Head) -> None:
    for script in root.iter("script"):
        text = script.text
        if script.get("type") != "application/ld+json" or not text or len(text) > _MAX_DATA_CHARACTERS:
            continue
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            continue
        for node in _nodes(value):
            kind = str(node.get("@type", ""))
            head.is_article = head.is_article or bool(_ARTICLES.search(kind))
            if _BODIES.search(kind):
                _read_article(node, head)


def _nodes(value: object) -> Iterator[dict]:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(item for item in node.values() if isinstance(item, dict | list))
        elif isinstance(node, list):
            pending.extend(node)


def _read_article(node: dict, head: Head) -> None:
    body = node.get("articleBody")
    if isinstance(body, str) and len(body) > len(head.body):
        lines = (" ".join(line.split()) for line in _TAG.sub(" ", body).splitlines())
        head.body = "\n\n".join(filter(None, lines))
    head.author = head.author or _name_of(node.get("author"))
    date = _DATE.match(str(node.get("datePublished", "")))
    head.date = head.date or (date.group() if date else "")
    if not head.title and isinstance(node.get("headline"), str):
        head.title = " ".join(node["headline"].split())


def _name_of(author: object) -> str:
    if isinstance(author, list):
        return ", ".join(filter(None, map(_name_of, author[:8])))
    if isinstance(author, dict):
        author = author.get("name")
    return " ".join(author.split()) if isinstance(author, str) and not author.startswith("http") else ""
