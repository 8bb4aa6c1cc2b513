"""What readers wrote below an article: kept as text, without names, dates and reply links."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.dom import clean, descendants, drop, has_class
from megatron_mimo.data.extract.words import words

_BODIES = words(
    """
    comment-content comment-text comment_text comment__content comment-body__text commentText blog-comment-body
    comment-body comment__body comment-entry commentBody comment_content
    """
)
_FRAME = (
    "comment-author", "comment-meta", "comment-metadata", "commentmetadata", "reply", "comment-reply-link", "vcard",
    "says", "comment-header", "comment-footer", "comment-actions", "comment-user", "comment-date", "comment-avatar",
    "comment-author-info",
)  # fmt: skip
_AREA = re.compile(r"(?:^|[\s_-])(?:comments?|commentlist|respond|replies)(?=$|[\s_-])", re.IGNORECASE)
_PAGE = frozenset(("html", "body", "main"))


def take_comments(body: etree._Element, present: set[str]) -> list[etree._Element]:
    """Take the comments out of the page and return them in order; the area around them goes.

    `present` holds all classes of the page.
    """
    if present.isdisjoint(_BODIES):
        return []
    found = [element for element in descendants(body, *_BODIES) if next(descendants(element, *_BODIES), None) is None]
    areas = {area for area in map(_area, found) if area is not None}
    comments = []
    for element in found:
        for frame in list(descendants(element, *_FRAME)):
            drop(frame)
        copy = etree.Element("div")
        copy.text = clean(element.text or "")
        copy.extend(list(element))
        comments.append(copy)
    for area in areas:
        drop(area)
    return comments


def _area(comment: etree._Element) -> etree._Element | None:
    """The outermost part of the page that is all comments."""
    area = comment
    for node in comment.iterancestors():
        if node.tag in _PAGE or next(node.iter("h1"), None) is not None:
            break
        if _AREA.search(f"{node.get('class', '')} {node.get('id', '')}") and not has_class(
            node, frozenset(("hentry", "post"))
        ):
            area = node
    return area
