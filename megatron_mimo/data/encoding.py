"""From bytes to text: which character encoding a page is in, in the order of the HTML standard."""

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.+-]{2,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,200}encoding\s*=\s*[\"']([A-Za-z0-9_:.+-]{2,40})")
_ASCII = bytes(range(128))
_LEAST_VALID_SHARE = 4
"""Valid characters of several bytes for every bad byte, in a text that still counts as UTF-8."""
_PRESCAN_BYTES = 4096
_DETECT_BYTES = 65536
_PYTHON_NAMES = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949", "big5": "big5hkscs"}
"""Supersets that browsers use under the label of the smaller set."""


def decode(data: bytes, content_type: str = "") -> str:
    """Decode a page: byte order mark, UTF-8, HTTP `Content-Type`, `<meta charset>`, then detection.

    UTF-8 goes before the page's own word: a wrong `<meta>` left by a template is common, text that is valid UTF-8 by
    chance is not; a few bad bytes among many valid characters do not change that. Bytes that do not fit become U+FFFD;
    never raises.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    if _is_damaged_utf8(data, text):
        return text
    head = data[:_PRESCAN_BYTES]
    declared = [
        _CHARSET.search(content_type.encode("ascii", "ignore")),
        _CHARSET.search(head),
        _XML_ENCODING.match(head),
    ]
    for match in declared:
        text = _try(data, match.group(1).decode("ascii")) if match else None
        if text is not None:
            return text
    detected = detect_encoding(data[:_DETECT_BYTES])
    return data.decode(_python_name(detected or "utf-8") or "utf-8", "replace")


def _is_damaged_utf8(data: bytes, text: str) -> bool:
    """Whether characters of several bytes far outnumber the bytes that fit none: no other encoding looks so."""
    replaced = text.count("\ufffd") - data.count("\ufffd".encode())
    ascii_characters = len(data) - len(data.translate(None, _ASCII))
    valid = len(text) - ascii_characters - replaced
    return valid >= _LEAST_VALID_SHARE * replaced


def _python_name(label: str) -> str | None:
    """Python's codec for a label from the web, or None."""
    name = map_encoding_to_html5(label, False) or label
    name = _PYTHON_NAMES.get(name.lower(), name)
    try:
        info = codecs.lookup(name)
    except LookupError:
        return None
    return info.name if info._is_text_encoding else None


def _try(data: bytes, label: str) -> str | None:
    """The text if the label fits nearly all of the data; a few broken bytes are no reason to guess anew."""
    name = _python_name(label)
    if name is None:
        return None
    text = data.decode(name, "replace")
    return text if text.count("\ufffd") <= len(text) // 100 else None
