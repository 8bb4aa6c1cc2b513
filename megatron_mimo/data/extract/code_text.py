"""The exact text of a code block: what a reader would copy, without line numbers and buttons."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.dom import DROPPED, clean, drop, text_of
from megatron_mimo.data.extract.words import words

GUTTERS = words(
    """
    line-numbers-rows linenos lineno linenos-cell ln lnt hljs-ln-numbers hljs-ln-n hljs-ln-line-numbers
    pre-numbering linenumber linenumbers line-number line_numbers line-numbers line-numbers-wrapper
    react-syntax-highlighter-line-number gutter blob-num js-line-number rouge-gutter lines-num crayon-nums
    diff-line-num codemirror-linenumber codemirror-gutter-wrapper linenodiv react-line-number react-line-numbers
    linenums-gutter code-line-number line-num lineNumber lineNumbers code-lineno ltx_tag_listingline
    prettyprint-line-number gl ace_gutter margin-view-overlays code-block-line-numbers cm-gutters ec-line-number
    ln-num
    """
)
_NOISE = re.compile(
    r"copy|clipboard|hljs-button|toolbar|code-lang\b|lang-label|code__?-?(?:header|title)|tooltip|headerlink|anchor-link|fold-btn",
    re.IGNORECASE,
)
_LITERAL = re.compile(r"number|literal|\b(?:mi|mf|m|lit|hll)\b")
_NOISE_CHARACTERS = 40
_LETTER = re.compile(r"[^\W\d_]")
_LINE = re.compile(
    r"(?:^|\s)(?:line|token-line|code-line|cl|view-line|hljs-line|row-line|highlight-line|LineOfCode)(?:\s|$)"
)
_BLOCKS = words(
    """
    div li p tr ol ul table tbody section blockquote h1 h2 h3 h4 h5 h6 dd dt pre
    """
)
_SKIPPED = frozenset(("script", "style", "button", "clipboard-copy", "svg", "select", "input", "template", DROPPED))
_INVISIBLE = dict.fromkeys((0x200B, 0xFEFF, 0x2060)) | {0xA0: " ", 0x2028: "\n", 0x2029: "\n"}


def code_text(element: etree._Element) -> str:
    """The text of the element with its line breaks and indentation; `<br>`, lines in blocks and `&nbsp;` understood."""
    parts: list[str] = []
    _collect(element, parts)
    text = "".join(parts).replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_INVISIBLE) if not text.isascii() else text


def drop_line_numbers(element: etree._Element) -> None:
    """Drop numbers 1, 2, .. that open every line, each in a `<span>` of its own that is no number of the program."""
    numbers = []
    at_start = not (element.text or "").strip()
    for child in element:
        is_number = child.tag == "span" and len(child) == 0 and (child.text or "").strip(" .:\xa0").isdecimal()
        if is_number and at_start and not is_gutter(child) and not _LITERAL.search(child.get("class") or ""):
            numbers.append(child)
        inside = "".join(child.itertext())
        at_start = (child.tail or inside).rstrip(" ").endswith("\n") or child.tag == "br"
    num_lines = code_text(element).strip("\n").count("\n") + 1
    values = [int((child.text or "").strip(" .:\xa0")[:9]) for child in numbers]
    if num_lines < 2 or values != list(range(1, num_lines + 1)):
        return
    has_space = all((child.tail or "").startswith((" ", "\xa0", "\n")) for child in numbers)
    for child in numbers:
        if has_space and not (child.tail or "").startswith("\n"):
            child.tail = clean((child.tail or "")[1:])
        drop(child)


def trim(code: str) -> str:
    """Without blank lines at both ends, and without the space after its last character."""
    lines = code.rstrip().split("\n")
    start = next((at for at, line in enumerate(lines) if line.strip()), 0)
    return "\n".join(lines[start:])


def is_gutter(element: etree._Element) -> bool:
    """Line numbers and other things beside the code that are not copied with it."""
    names = element.get("class")
    if names and (not GUTTERS.isdisjoint(names.split()) or not GUTTERS.isdisjoint(names.lower().split())):
        return not _LETTER.search(text_of(element))
    if names and element.tag not in ("pre", "code") and _NOISE.search(names):
        return len(text_of(element)) <= _NOISE_CHARACTERS
    style = element.get("style")
    if style and "user-select" in style and "none" in style:
        return True
    if element.get("unselectable") == "on" or element.get("aria-hidden") == "true":
        return not _LETTER.search(text_of(element))
    return False


def _at_line_start(parts: list[str]) -> bool:
    return not parts or parts[-1].endswith("\n")


def _collect(element: etree._Element, parts: list[str]) -> None:
    if element.text:
        parts.append(element.text)
    for child in element:
        tag = child.tag
        if tag == "br":
            parts.append("\n")
        elif isinstance(tag, str) and tag not in _SKIPPED and not is_gutter(child):
            _collect_child(child, tag, parts)
        if child.tail:
            parts.append(child.tail)


def _collect_child(child: etree._Element, tag: str, parts: list[str]) -> None:
    if tag in _BLOCKS:
        if not _at_line_start(parts):
            parts.append("\n")
        before = len(parts)
        _collect(child, parts)
        if len(parts) == before or not _at_line_start(parts):
            parts.append("\n")
        return
    before = len(parts)
    _collect(child, parts)
    if _is_line(child) and _line_follows(child) and (len(parts) == before or not _at_line_start(parts)):
        parts.append("\n")


def _is_line(element: etree._Element) -> bool:
    if element.tag == "code":
        parent = element.getparent()
        return parent is not None and parent.tag == "pre" and not element.tail
    names = element.get("class")
    if element.get("data-line") is not None or element.get("data-line-num") is not None:
        return True
    return bool(names and _LINE.search(names))


def _line_follows(element: etree._Element) -> bool:
    """Whether the next line starts right behind this one: only a style sheet breaks the line."""
    if element.tail and ("\n" in element.tail or element.tail.strip()):
        return False
    follower = element.getnext()
    return follower is not None and follower.tag == element.tag and _is_line(follower)
