"""MathML -> TeX, for formulas that carry no TeX of their own.

Presentation MathML 3 as MathJax, LaTeXML, Word, Pandoc and hand-written pages use it. A child is written after its
parent has looked at the whole row, since TeX names patterns (`\\binom`, `pmatrix`, `cases`) that MathML spells out.
"""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.dom import text_of
from megatron_mimo.data.extract.mathml_symbols import (
    ACCENTS,
    FENCES,
    FUNCTIONS,
    INFIX,
    INVISIBLE,
    LIMITS,
    STYLES,
    SYMBOLS,
    UNDER_ACCENTS,
)

_LETTERS_AT_END = re.compile(r"\\[A-Za-z]+$")
_NUMBER_AND_UNIT = re.compile(r"(-?[\d.]+)\s*(em|ex|px|pt)?")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SPACES = re.compile(r"(?<!\\) {2,}")
_SCRIPTED = frozenset({"msub", "msup", "msubsup", "munder", "mover", "munderover"})
_GROUPS = frozenset({"math", "mrow", "mstyle", "mpadded", "merror", "maction", "a", "mjx-math"})
_MATRICES = {
    ("(", ")"): "pmatrix", ("[", "]"): "bmatrix", ("|", "|"): "vmatrix", ("‖", "‖"): "Vmatrix", ("{", "}"): "Bmatrix",
}  # fmt: skip
_EM_SIZES = ((-1.0, r"\!"), (0.05, ""), (0.2, r"\,"), (0.25, r"\:"), (0.5, r"\;"), (1.5, r"\quad"), (1e9, r"\qquad"))


def mathml_to_tex(math: etree._Element) -> str:
    """TeX of a `<math>` element (or of any part of it), without delimiters."""
    return _SPACES.sub(" ", _write(math)).strip()


def _name(element: etree._Element) -> str:
    """The tag without its prefix; empty for what is no element."""
    tag = element.tag
    return tag.rpartition(":")[2].lower() if isinstance(tag, str) else ""


def _children(element: etree._Element) -> list[etree._Element]:
    return [child for child in element if isinstance(child.tag, str) and _name(child) not in ("none", "mprescripts")]


def join(parts: list[str]) -> str:
    """Put TeX side by side; `\\alpha` and `x` need a space between them."""
    result = ""
    for part in parts:
        if part and part[0].isalpha() and _LETTERS_AT_END.search(result[-24:]):
            result += " "
        result += part
    return result


def _write(element: etree._Element) -> str:
    name = _name(element)
    writer = _WRITERS.get(name)
    if writer is not None:
        return writer(element)
    if len(element) or name in _GROUPS:
        return _row(element)
    return _identifier(element)


def _argument(element: etree._Element) -> str:
    """TeX in braces."""
    return "{" + _write(element).strip() + "}"


def _row(element: etree._Element) -> str:
    children = _children(element)
    if not children:
        return _escape((element.text or "").strip())
    return _fenced_pattern(element, children) or join([_in_row(child, at > 0) for at, child in enumerate(children)])


def _in_row(child: etree._Element, has_left: bool) -> str:
    """One member of a row; binary operators and relations get air."""
    if _name(child) == "mo" and has_left and child.get("form") != "prefix" and _text(child) in INFIX:
        return f" {_write(child)} "
    return _write(child) + " " if _name(child) in _SCRIPTED else _write(child)


def _fence(element: etree._Element) -> str:
    """The bracket that an operator draws, or an empty text."""
    element = _only(element)
    text = _text(element) if _name(element) == "mo" else ""
    return text if text in FENCES else ""


def _fenced_pattern(row: etree._Element, children: list[etree._Element]) -> str:
    """Matrices, cases, binomials and `\\left .. \\right`; empty when the row is none of them."""
    opening, closing = _fence(children[0]), _fence(children[-1])
    inner = children[1:-1] if closing and len(children) > 1 else children[1:]
    if opening and len(inner) == 1:
        core = _only(inner[0])
        if _name(core) == "mtable" and (opening, closing) in _MATRICES:
            return _table(core, _MATRICES[opening, closing])
        if _name(core) == "mtable" and opening == "{" and _is_empty_close(children[-1], closing):
            return _table(core, "cases")
        if _name(core) == "mfrac" and opening == "(" and closing == ")" and _is_zero(core.get("linethickness")):
            top, bottom = (_argument(child) for child in _children(core)[:2])
            return rf"\binom{top}{bottom}"
    if row.get("data-mjx-texclass") == "INNER" and len(children) > 1 and _name(_only(children[-1])) == "mo":
        left, right = _delimiter(children[0]), _delimiter(children[-1])
        middle = join([_in_row(child, at > 0) for at, child in enumerate(children[1:-1])])
        return join([rf"\left{left}", " " if left[-1].isalpha() else "", middle, rf"\right{right}"])
    return ""


def _is_empty_close(last: etree._Element, closing: str) -> bool:
    return not closing and (_name(_only(last)) != "mo" or not _text(last))


def _delimiter(element: etree._Element) -> str:
    element = _only(element)
    text = _text(element)
    return FENCES.get(text, _operator(element)) if text else "."


def _only(element: etree._Element) -> etree._Element:
    """The single thing inside nested groups."""
    children = _children(element)
    while _name(element) in _GROUPS and len(children) == 1:
        element = children[0]
        children = _children(element)
    return element


def _is_zero(length: str | None) -> bool:
    match = _NUMBER_AND_UNIT.match(length or "")
    return match is not None and match.group(1).strip("-.0") == ""


def _text(element: etree._Element) -> str:
    return text_of(element).strip().translate(INVISIBLE)


def _escape(text: str) -> str:
    """Characters of a token, each as TeX."""
    return join([SYMBOLS.get(character, character) for character in text])


def _styled(element: etree._Element, tex: str) -> str:
    command = STYLES.get(element.get("mathvariant", ""))
    return rf"\{command}{{{tex}}}" if command and tex else tex


def _identifier(element: etree._Element) -> str:
    text = _text(element)
    if text in FUNCTIONS:
        return f"\\{text}"
    if len(text) > 1 and text.isascii() and text.isalpha() and element.get("mathvariant") in (None, "normal", "italic"):
        return rf"\{'mathit' if element.get('mathvariant') == 'italic' else 'mathrm'}{{{text}}}"
    if element.get("mathvariant") == "normal":
        return rf"\mathrm{{{text}}}" if text.isascii() and text.isalpha() else _escape(text)
    return _styled(element, _escape(text))


def _number(element: etree._Element) -> str:
    return _styled(element, _escape(_text(element)))


def _operator(element: etree._Element) -> str:
    text = _text(element)
    if text in FUNCTIONS:
        return f"\\{text}"
    if len(text) > 1 and text.isascii() and text.isalpha():
        return rf"\operatorname{{{text}}}"
    return SYMBOLS.get(text) or _escape(text)


def _mtext(element: etree._Element) -> str:
    text = text_of(element).replace("\xa0", " ")
    if not text.strip():
        return r"\ " if text else ""
    return rf"\text{{{text}}}"


def _space(element: etree._Element) -> str:
    if element.get("linebreak") == "newline":
        return r"\\ "
    match = _NUMBER_AND_UNIT.match(element.get("width", ""))
    try:
        width = float(match.group(1)) if match else 0.0
    except ValueError:
        return ""
    if match and match.group(2) in ("px", "pt"):
        width /= 16
    return next(tex for limit, tex in _EM_SIZES if width <= limit)


def _fraction(element: etree._Element) -> str:
    children = _children(element)
    if len(children) < 2:
        return _row(element)
    top, bottom = _argument(children[0]), _argument(children[1])
    if _is_zero(element.get("linethickness")):
        return f"{{{top[1:-1]} \\atop {bottom[1:-1]}}}"
    if element.get("bevelled") == "true":
        return f"{top}/{bottom}"
    return rf"\frac{top}{bottom}"


def _square_root(element: etree._Element) -> str:
    return rf"\sqrt{{{_row(element).strip()}}}"


def _root(element: etree._Element) -> str:
    children = _children(element)
    if len(children) < 2:
        return _square_root(element)
    return rf"\sqrt[{_write(children[1]).strip()}]{_argument(children[0])}"


def _base(element: etree._Element) -> str:
    """What a script hangs on: one TeX token stands bare."""
    tex = _write(element).strip()
    if len(tex) <= 1 or re.fullmatch(
        r"\\[A-Za-z]+|\\(?:mathbb|mathbf|mathcal|mathrm|operatorname|mathfrak)\{\w+\}", tex
    ):
        return tex or "{}"
    return tex if _name(_only(element)) in ("mo", "mn", "mtext") else f"{{{tex}}}"


def _script(sign: str, element: etree._Element) -> str:
    tex = _write(element).strip()
    if sign == "^" and tex and set(tex) <= {"'"}:
        return tex
    if not tex:
        return ""
    return sign + (tex if len(tex) == 1 or _COMMAND.fullmatch(tex) else f"{{{tex}}}")


def _scripts(element: etree._Element) -> str:
    """msub, msup, msubsup."""
    children = _children(element)
    signs = {"msub": "_", "msup": "^"}.get(_name(element), "_^")
    if not children:
        return ""
    pairs = zip(signs, children[1:], strict=False)
    return join([_base(children[0]), *(_script(sign, child) for sign, child in pairs)])


def _prescripts(element: etree._Element) -> str:
    children = [child for child in element if isinstance(child.tag, str)]
    if not children:
        return ""
    split = next((at for at, child in enumerate(children) if _name(child) == "mprescripts"), len(children))
    after, before = children[1:split], children[split + 1 :]
    scripts = [
        "".join(_script("_^"[at % 2], child) for at, child in enumerate(group) if _name(child) != "none")
        for group in (before, after)
    ]
    return ("{}" + scripts[0] if scripts[0] else "") + _base(children[0]) + scripts[1]


def _over_or_under(element: etree._Element) -> str:
    """munder, mover, munderover: limits, accents, braces, long arrows, or stacked."""
    children = _children(element)
    if len(children) < 2:
        return _row(element)
    name, core = _name(element), _only(children[0])
    base = _write(children[0]).strip()
    under = children[1] if name != "mover" else None
    over = children[-1] if name != "munder" else None
    if _text(core) in LIMITS or base.startswith((r"\operatorname", r"\underbrace", r"\overbrace")):
        scripts = [_script(sign, child) for sign, child in (("_", under), ("^", over)) if child is not None]
        return join([base, *scripts])
    if base in (r"\to", r"\rightarrow", r"\leftarrow", r"\longrightarrow", r"\longleftarrow"):
        below = f"[{_write(under).strip()}]" if under is not None else ""
        arrow = "xleftarrow" if "left" in base else "xrightarrow"
        return rf"\{arrow}{below}{{{_write(over).strip() if over is not None else ''}}}"
    if under is not None:
        base = _accented(base, under, UNDER_ACCENTS, "underset")
    return _accented(base, over, ACCENTS, "overset") if over is not None else base


def _accented(base: str, mark: etree._Element, accents: dict[str, tuple[str, str]], stacked: str) -> str:
    """The base under or over a mark: `\\hat{x}`, `\\widehat{xyz}`, or `\\overset{..}{..}`."""
    narrow, wide = accents.get(_text(mark), ("", ""))
    if narrow:
        is_wide = len(base) > 1 and not re.fullmatch(r"\\[A-Za-z]+|\\math\w+\{\w\}", base)
        return rf"\{wide if is_wide else narrow}{{{base}}}"
    return rf"\{stacked}{_argument(mark)}{{{base}}}"


def _fenced(element: etree._Element) -> str:
    opening, closing = element.get("open", "("), element.get("close", ")")
    separators = [*"".join(element.get("separators", ",").split())]
    children = _children(element)
    if len(children) == 1 and _name(_only(children[0])) == "mtable":
        if (opening, closing) in _MATRICES:
            return _table(_only(children[0]), _MATRICES[opening, closing])
        if opening == "{" and not closing:
            return _table(_only(children[0]), "cases")
    parts: list[str] = []
    for at, child in enumerate(children):
        if at and separators:
            parts.append(separators[min(at - 1, len(separators) - 1)] + " ")
        parts.append(_write(child))
    left, right = (FENCES.get(sign, sign) or "." for sign in (opening, closing))
    return join([rf"\left{left}", " " if left[-1].isalpha() else "", *parts, rf"\right{right}"])


def _enclose(element: etree._Element) -> str:
    notation = element.get("notation", "longdiv")
    commands = {"box": "boxed", "updiagonalstrike": "cancel", "downdiagonalstrike": "bcancel", "radical": "sqrt"}
    commands |= {"top": "overline", "bottom": "underline", "roundedbox": "boxed"}
    command = next((commands[word] for word in notation.split() if word in commands), "")
    body = _row(element).strip()
    return rf"\{command}{{{body}}}" if command else body


def _table(element: etree._Element, environment: str = "") -> str:
    rows = []
    for row in _children(element):
        cells = _children(row)
        if _name(row) == "mlabeledtr":
            cells = cells[1:]
        is_row = _name(row) in ("mtr", "mlabeledtr", "mjx-mtr")
        rows.append(" & ".join(_row(cell).strip() for cell in cells) if is_row else _write(row))
    if not environment:
        alignment = element.get("columnalign", "").split()
        environment = "aligned" if alignment[:2] == ["right", "left"] else "matrix"
        if len(rows) == 1 and len(_children(element)) == 1 and "&" not in rows[0]:
            return rows[0]
    body = r" \\ ".join(rows)
    return f"\\begin{{{environment}}} {body} \\end{{{environment}}}"


def _semantics(element: etree._Element) -> str:
    children = _children(element)
    return _write(children[0]) if children else ""


def _nothing(element: etree._Element) -> str:
    return ""


_WRITERS = {
    **dict.fromkeys(("mi", "ci"), _identifier),
    **dict.fromkeys(("mn", "cn"), _number),
    "mo": _operator,
    **dict.fromkeys(("mtext", "ms"), _mtext),
    "mspace": _space,
    "mfrac": _fraction,
    "msqrt": _square_root,
    "mroot": _root,
    **dict.fromkeys(("msub", "msup", "msubsup"), _scripts),
    "mmultiscripts": _prescripts,
    **dict.fromkeys(("munder", "mover", "munderover"), _over_or_under),
    "mfenced": _fenced,
    "menclose": _enclose,
    "mtable": _table,
    "mphantom": lambda element: rf"\phantom{{{_row(element).strip()}}}",
    "semantics": _semantics,
    **dict.fromkeys(("annotation", "annotation-xml", "mprescripts", "none", "maligngroup", "malignmark"), _nothing),
}
