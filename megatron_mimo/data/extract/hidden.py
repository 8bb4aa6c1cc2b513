"""What a page holds but does not show."""

import re
from functools import lru_cache

import lxml.etree as etree

from megatron_mimo.data.extract.words import words

_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CLASSES = words(
    """
    sr-only visually-hidden visuallyhidden screen-reader-text screen-reader-only d-none is-hidden mw-jump-link
    u-hidden assistive-text element-invisible show-for-sr clip-text a11y-hidden cdk-visually-hidden
    v-visually-hidden visuallyHidden MuiBox-hidden hide-text
    """
)
_TOOLS = words("mw-editsection viewcode-link viewcode-back viewcode-block-link bbCodeBlock-expandLink")
"""Links that programs put into the text to edit, unfold or look up what stands there."""
_UNSEEN = _CLASSES | _TOOLS
_REVEALED = re.compile(
    r"solution|answer|spoiler|proof|hint|collaps|accordion|tab|toggle|expand|content|hideshow", re.IGNORECASE
)
_PAGE = frozenset(("html", "body", "main", "article"))
_DECORATION_CHARACTERS = 20


@lru_cache(maxsize=20000)
def _is_unseen(names: str) -> bool:
    return not _UNSEEN.isdisjoint(names.split())


def is_hidden(element: etree._Element) -> bool:
    """Whether a reader never sees the element; solutions and tabs behind a button are seen."""
    if element.tag in _PAGE:
        return False
    if element.get("hidden") is not None and element.get("hidden") != "until-found":
        return True
    names = element.get("class")
    if names and _is_unseen(names):
        return True
    style = element.get("style")
    if style and _STYLE.search(style):
        return not _REVEALED.search(f"{names or ''} {element.get('id', '')}")
    return (
        element.get("aria-hidden") == "true" and len(element) == 0 and len(element.text or "") < _DECORATION_CHARACTERS
    )
