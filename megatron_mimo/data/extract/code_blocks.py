"""Code blocks: every way a page lays code out, each replaced by one atom that holds the exact text.

A `<pre>` alone; a table with line numbers on its left (Pygments, Rouge, Chroma, Hexo); a table with a row a line
(GitHub, highlight.js); lists or blocks of lines (SyntaxHighlighter, GeSHi, editors); `<code>` with `<br>` (forums).
"""

import json
import re
from functools import lru_cache

import lxml.etree as etree

from megatron_mimo.data.extract.code_language import language_of
from megatron_mimo.data.extract.code_text import GUTTERS, code_text, drop_line_numbers, is_gutter, trim
from megatron_mimo.data.extract.dom import CODE, FORMULA, become, clean, descendants, drop, first, has_class, text_of
from megatron_mimo.data.extract.hidden import is_hidden
from megatron_mimo.data.extract.tex_text import tidy
from megatron_mimo.data.extract.words import words

_CODE_CELLS = words(
    """
    code blob-code blob-code-inner rouge-code lines-code crayon-code hljs-ln-code lines js-file-line lntd
    code-cell line_content linenos-code codecontent diff-line-code
    """
)
_CODE_TABLES = re.compile(
    r"highlight|hljs|code|lntable|rouge|syntax|blob|crayon|lines|d-block|processedcode", re.IGNORECASE
)
_LINE_VIEWERS = {
    "crayon-pre": "crayon-line", "CodeMirror-code": "CodeMirror-line", "cm-content": "cm-line",
    "ace_text-layer": "ace_line",
    "view-lines": "view-line", "react-code-lines": "react-file-line", "ltx_listing": "ltx_listingline",
    "syntaxhighlighter": "line", "dp-highlighter": "line", "fragment": "line", "code-container": "line",
}  # fmt: skip
_BOXES = frozenset(("div", "td", "blockquote", "p", "span"))
_CODE_BOXES = words(
    """
    code codeblock code-block codebox source-code sourcecode w3-code phpcode code_block codecontent bbcode_code
    codebody code-content example-code codesnip listing program blockcode
    """
)
_NO_CODE = ("pre", "p", "table", "h1", "h2", "h3", "h4", "ul", "ol", "img", "textarea", CODE)
_GESHI = re.compile(r"(?:^|\s)(?:geshi|dp-\w+|linenums|highlight-lines|hljs-list)(?:\s|$)")
_PRE_STYLE = re.compile(r"white-space:\s*pre\b|display:\s*block", re.IGNORECASE)
_MONOSPACE = re.compile(r"monospace|courier|consolas|menlo", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-only-cursor-text-area|crayon-plain|(?:^|[\s_-])code(?:$|[\s_-])")
_SPACE = re.compile(r"[ \t]{2,}")
_PARAGRAPHS = frozenset(("p", "div", "body", "main", "article", "section", "blockquote"))
_APART = _PARAGRAPHS | words("pre h1 h2 h3 h4 h5 h6 ul ol dl table figure form hr header footer nav aside")
_BUTTON_CHARACTERS = 30
_LEAST_TOKENS = 4


def mark_code(element: etree._Element, tag: str, names: str) -> bool:
    """Replace the element by a code atom (or drop a column of line numbers); False when it is no code block."""
    by_tag = _BY_TAG.get(tag)
    if by_tag is not None:
        return by_tag(element)
    kind = _kind(names) if names else ""
    if kind == "gutter" and _is_numbers(element):
        drop(element)
        return True
    if kind == "viewer" and tag == "div" and _viewer(element):
        return True
    if kind == "box" and tag in _BOXES:
        return _box(element) or _numbered(element)
    if kind == "list" and tag == "ol":
        return _put(element, code_text(element))
    if tag in _BOXES and len(element) > 1 and _tokens(element):
        return True
    return tag == "div" and _styled(element)


@lru_cache(maxsize=20000)
def _kind(names: str) -> str:
    """What the classes say of an element that is no `<pre>`, `<code>` or table."""
    tokens = names.split()
    if not GUTTERS.isdisjoint(tokens):
        return "gutter"
    if not _LINE_VIEWERS.keys().isdisjoint(tokens):
        return "viewer"
    if not _CODE_BOXES.isdisjoint(tokens):
        return "box"
    return "list" if _GESHI.search(names) else ""


def _put(element: etree._Element, code: str, language: str | None = None) -> bool:
    code = trim(code)
    if language is None:
        language = language_of(element)
    if not code:
        drop(element)
    elif language == "math":
        become(element, FORMULA, tidy(code), display="1")
    else:
        become(element, CODE, code, language=language)
    return True


def _pre(element: etree._Element) -> bool:
    if _is_number_column(element):
        drop(element)
        return True
    source = _only_code(element)
    drop_line_numbers(source)
    return _put(element, code_text(source))


def _only_code(pre: etree._Element) -> etree._Element:
    """The one `<code>` in a `<pre>` whose other parts are its title bar; else the `<pre>`."""
    codes = pre.findall("code")
    others = [child for child in pre if child.tag != "code"]
    if len(codes) != 1 or (pre.text or "").strip() or any((child.tail or "").strip() for child in pre):
        return pre
    return codes[0] if all(child.tag in ("div", "header", "button", "ul", "figcaption") for child in others) else pre


def _is_number_column(element: etree._Element) -> bool:
    """Line numbers that stand in a box of their own beside the code."""
    words = text_of(element).split()
    if not words or not all(word.isdecimal() for word in words) or (len(words) < 2 and not is_gutter(element)):
        return False
    start = int(words[0][:9])
    if any(int(word[:9]) != start + at for at, word in enumerate(words)):
        return False
    parent = element.getparent()
    beside = [
        node for node in (element, parent, parent.getparent() if parent is not None else None) if node is not None
    ]
    return any(is_gutter(node) for node in beside) or (element.getnext() is not None and element.getnext().tag == "pre")


def _is_numbers(element: etree._Element) -> bool:
    words = text_of(element).split()
    return all(word.isdecimal() for word in words)


def _cells(row: etree._Element) -> list[etree._Element]:
    return [cell for cell in row if cell.tag in ("td", "th") and not is_hidden(cell)]


def _is_number_cell(cell: etree._Element) -> bool:
    if cell.get("data-line-number") is not None and not has_class(cell, _CODE_CELLS - {"code"}):
        return True
    if is_gutter(cell):
        return True
    numbers = next((child for child in cell.iter("pre", "span", "div") if has_class(child, GUTTERS)), None)
    words = text_of(cell).split()
    return (numbers is not None or len(words) > 0) and all(word.isdigit() for word in words)


def _is_code_cell(cell: etree._Element, in_code_table: bool) -> bool:
    if has_class(cell, _CODE_CELLS) or next(cell.iter("pre"), None) is not None:
        return True
    return in_code_table and next(cell.iter("code"), None) is not None


def _code_cell(row: etree._Element, in_code_table: bool) -> etree._Element | None:
    """The one cell of a row that holds code, when all others hold line numbers."""
    rest = [cell for cell in _cells(row) if not _is_number_cell(cell)]
    has_numbers = len(rest) < len(_cells(row))
    if len(rest) != 1 or not _is_code_cell(rest[0], in_code_table):
        return None
    return rest[0] if has_numbers or (in_code_table and has_class(rest[0], _CODE_CELLS)) else None


def _table(element: etree._Element) -> bool:
    parent = element.getparent()
    names = f"{element.get('class', '')} {parent.get('class', '') if parent is not None else ''}"
    in_code_table = bool(_CODE_TABLES.search(names))
    rows = [row for row in element.iter("tr") if any(cell.tag == "td" for cell in _cells(row))]
    if not rows or _code_cell(rows[0], in_code_table) is None:
        return False
    cells = [_code_cell(row, in_code_table) for row in rows]
    if len(rows) > 1 and sum(cell is None for cell in cells) * 10 > len(cells):
        return False
    found = [cell for cell in cells if cell is not None]
    if len(found) > 1 and not in_code_table and any("\n" in code_text(cell).strip() for cell in found):
        return False
    language = language_of(element) or language_of(found[0])
    return _put(element, "\n".join(code_text(cell).removesuffix("\n") for cell in found), language)


def _viewer(element: etree._Element) -> bool:
    """A box of lines, each an element."""
    for box, line in _LINE_VIEWERS.items():
        if not has_class(element, frozenset((box,))):
            continue
        inner = element
        if box == "syntaxhighlighter":
            inner = first(element, "container") if first(element, "container") is not None else element
        language = language_of(element)
        lines = [code_text(child).removesuffix("\n") for child in descendants(inner, line) if not _in_line(child, line)]
        if lines and any(text.strip() for text in lines):
            return _put(element, "\n".join(lines), language)
    return False


def _in_line(element: etree._Element, line: str) -> bool:
    """Whether the element stands inside a line: Doxygen's numbers are links of that class."""
    parent = element.getparent()
    return element.tag != "div" and parent is not None and any(
        has_class(node, frozenset((line,))) for node in (parent, *parent.iterancestors("div"))
    )  # fmt: skip


def _styled(element: etree._Element) -> bool:
    """A `<div>` that is a code block by its style alone."""
    style = element.get("style")
    if not style or "pre" not in style or not _PRE_STYLE.search(style) or not _MONOSPACE.search(style):
        return False
    return element.find(".//p") is None and "\n" in code_text(element).strip() and _put(element, code_text(element))


def _box(element: etree._Element) -> bool:
    """A box whose class says code, and whose lines end in `<br>`."""
    if any(True for _ in element.iterdescendants(*_NO_CODE)) or element.find(".//br") is None:
        return False
    return _put(element, code_text(_break_only(element)))


def _numbered(element: etree._Element) -> bool:
    """A code box whose lines are the items of a list (Discuz), beside a button at most."""
    lists = list(element.iter("ol", "ul"))
    if len(lists) != 1 or any(True for _ in element.iter("pre", "table", "h1", "h2", "h3", CODE)):
        return False
    items = [item for item in lists[0] if item.tag == "li"]
    rest = len("".join(text_of(element).split())) - len("".join(text_of(lists[0]).split()))
    if not items or rest > _BUTTON_CHARACTERS:
        return False
    return _put(element, "\n".join(code_text(_break_only(item)).strip("\n") for item in items))


def _tokens(element: etree._Element) -> bool:
    """Lines in which every word is a `<code>` of its own, in boxes or between `<br>`."""
    head = element[0]
    lines = list(element) if head.tag in ("div", "li") else [element]
    if head.tag not in ("div", "li", "code") or (lines == [element] and element.find("br") is None):
        return False
    if len(lines) > 1 and any((child.tail or "").strip() for child in lines):
        return False
    if not all(map(_is_token_line, lines)) or sum(1 for _ in element.iter("code")) < _LEAST_TOKENS:
        return False
    return _put(element, "\n".join(code_text(line).strip("\n") for line in lines))


def _is_token_line(line: etree._Element) -> bool:
    if not isinstance(line.tag, str) or (line.text or "").strip():
        return False
    return all(child.tag in ("code", "br") and not (child.tail or "").strip() for child in line)


def _code(element: etree._Element) -> bool:
    """`<code>` outside `<pre>`: a block when it breaks lines."""
    has_breaks = element.find(".//br") is not None or element.find("div") is not None or element.find("ol") is not None
    if not has_breaks:
        text = element.text if len(element) == 0 else text_of(element)
        if not text or "\n" not in text.strip():
            return False
        names = element.get("class") or ""
        style = element.get("style") or ""
        if (
            not (_fills_parent(element) or _stands_apart(element))
            and "hljs" not in names
            and "block" not in names
            and not _PRE_STYLE.search(style)
            and "bbc_code" not in names
        ):
            return False
    return _put(element, code_text(_break_only(element)))


def _fills_parent(element: etree._Element) -> bool:
    """Whether an element is all that its paragraph holds: lines of code without a `<pre>`."""
    parent = element.getparent()
    if parent is None or parent.tag not in _PARAGRAPHS or (parent.text or "").strip() or (element.tail or "").strip():
        return False
    return all(node is element or (node.tag == "br" and not (node.tail or "").strip()) for node in parent)


def _stands_apart(element: etree._Element) -> bool:
    """Whether nothing but blocks is beside an element: no word of a sentence that it could be part of."""
    parent, before, after = element.getparent(), element.getprevious(), element.getnext()
    if parent is None or parent.tag == "p" or parent.tag not in _PARAGRAPHS:
        return False
    text_before = parent.text if before is None else before.tail
    if (text_before or "").strip() or (element.tail or "").strip():
        return False
    return all(node is None or node.tag in _APART for node in (before, after))


def _typewriter(element: etree._Element) -> bool:
    """`<tt>` or `<samp>`: a block when it breaks lines and holds nothing but text."""
    if element.find(".//br") is None or any(True for _ in element.iterdescendants(*_NO_CODE)):
        return False
    return _put(element, code_text(_break_only(element)))


def _break_only(element: etree._Element) -> etree._Element:
    """The same element where only `<br>` breaks lines, when it has them: the source's own breaks are mere layout."""
    if element.find(".//br") is None:
        return element
    for node in element.iter():
        for side in ("text", "tail"):
            value = getattr(node, side)
            if value and "\n" in value and not (node is element and side == "tail"):
                setattr(
                    node,
                    side,
                    clean(value.replace("\n", "") if value.strip() else _SPACE.sub(" ", value.replace("\n", ""))),
                )
    return element


def _textarea(element: etree._Element) -> bool:
    names = f"{element.get('id', '')} {element.get('class', '')}"
    is_code = element.get("data-testid") == "read-only-cursor-text-area" or bool(_READ_ONLY.search(names))
    return _put(element, text_of(element)) if is_code and text_of(element).strip() else False


def _plain(element: etree._Element) -> bool:
    return _put(element, code_text(element))


def embedded_source(root: etree._Element) -> str:
    """The file of a code viewer that ships its lines as JSON (GitHub): call it when the page shows no code."""
    for script in root.iter("script"):
        if script.get("type") == "application/json" and "rawLines" in (script.text or ""):
            try:
                lines = _find_key(json.loads(script.text or ""), "rawLines")
            except (ValueError, RecursionError):
                continue
            if isinstance(lines, list):
                return "\n".join(line for line in lines if isinstance(line, str))
    return ""


def _find_key(value: object, key: str) -> object:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get(key):
                return node[key]
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return None


_BY_TAG = {
    "pre": _pre,
    "table": _table,
    "code": _code,
    "tt": _typewriter,
    "samp": _typewriter,
    "textarea": _textarea,
    "xmp": _plain,
    "listing": _plain,
    "plaintext": _plain,
}
