"""The words of an element's names: classes, id, role and item properties, by whole token."""

import re
from functools import lru_cache

import lxml.etree as etree

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PART = re.compile(r"[^\W\d_]{2,}")
_MAX_NAMES = 12
_MAX_CHARACTERS = 60


def names_of(element: etree._Element) -> tuple[str, ...]:
    """Words that name an element: its tag as `<tag`, its role as `role=...`, and what its classes and id are made of.

    A class `entryContent` or `entry-content` gives `.entry-content`, `entry` and `content`; digits and case are left
    out. The words of an id are those of a class.
    """
    get = element.get
    return _words(str(element.tag), get("class") or "", get("id") or "", get("role") or "", get("itemprop") or "")


@lru_cache(maxsize=30000)
def _words(tag: str, classes: str, identifier: str, role: str, itemprop: str) -> tuple[str, ...]:
    found = dict.fromkeys((f"<{tag}",))
    if role:
        found[f"role={role.lower()}"] = None
    for name in itemprop.split()[:2]:
        found[f"itemprop={name.lower()}"] = None
    for name in [*classes.split()[:_MAX_NAMES], identifier]:
        parts = [part.lower() for part in _PART.findall(_CAMEL.sub("-", name[:_MAX_CHARACTERS]))]
        if len(parts) > 1:
            found["." + "-".join(parts)] = None
        for part in parts:
            found[part] = None
    return tuple(found)
