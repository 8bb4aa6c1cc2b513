"""Where TeX comes from: every way in which a page draws a formula, each replaced by one atom.

MathJax 2 leaves `<script type="math/tex">` beside what it drew; MathJax 3 leaves MathML for screen readers; KaTeX,
MediaWiki and others leave an `<annotation>`; LaTeXML an `alttext`; blogs leave images. Where a page holds a formula
several times, the most exact form is taken, once. `$..$` and `\\(..\\)` in running text stay as they are.
"""

import json
import re
from functools import lru_cache

import lxml.etree as etree

from megatron_mimo.data.extract.dom import FORMULA, become, class_names, drop, parse, text_of
from megatron_mimo.data.extract.mathjax_drawing import drawing_to_mathml
from megatron_mimo.data.extract.mathml import mathml_to_tex
from megatron_mimo.data.extract.tex_images import image_formula
from megatron_mimo.data.extract.tex_text import Formula, delimited, looks_like_tex, tidy
from megatron_mimo.data.extract.words import words

_TEX_ENCODINGS = words("application/x-tex tex latex application/x-latex text/x-tex x-tex application/tex")
_DRAWN_BY_MATHJAX_2 = words(
    """
    MathJax MathJax_Display MathJax_SVG MathJax_SVG_Display MathJax_CHTML mjx-chtml MJXc-display MathJax_MathML
    """
)
_RAW = words(
    """
    math math-container arithmatex math-tex mathjax_process notranslate-math js-inline-math js-display-math tex
    latex js-render-math ql-formula latex-rendered ztext-math md-inline-math mathjax-block math-inline math-block
    math-display tex2jax_process wp-katex-eq katex-src equation-container displaymath process-math formula-raw
    mathjax-tex inline-math display-math
    """
)
_ATTRIBUTES = ("data-tex", "data-latex", "data-formula", "data-katex", "data-math", "data-equation", "data-expr")
_INTERESTING = re.compile(r"[Mm]ath|katex|tex\b|latex|[Ff]ormula|MJX|mjx|equation|mwe-|ltx_eq")
_WIRIS = str.maketrans({"«": "<", "»": ">", "¨": '"', "§": "&", "`": "'"})
_MAX_RAW_CHARACTERS = 8000


def mark_formula(element: etree._Element, tag: str, names: str) -> bool:
    """Replace the element by a formula atom (or drop a duplicate drawing); False when it is no formula."""
    by_tag = _BY_TAG.get(tag)
    if by_tag is not None:
        return by_tag(element)
    if tag.endswith(":math"):
        return _math(element)
    if names and _is_interesting(names):
        return _by_class(element, tag, set(names.split()))
    if tag != "span" and tag != "div":
        return False
    return bool(element.get("data-tex") or element.get("data-latex") or element.get("data-formula")) and _raw(
        element, tag, set()
    )


@lru_cache(maxsize=20000)
def _is_interesting(names: str) -> bool:
    """Whether classes may speak of a formula."""
    return bool(_INTERESTING.search(names))


def put(element: etree._Element, formula: Formula | None) -> bool:
    """Make the element an atom; an empty formula leaves nothing."""
    if formula is None or not formula.tex:
        drop(element)
        return True
    attributes = {"display": "1"} if formula.is_display else {}
    if formula.number:
        attributes["number"] = formula.number
    become(element, FORMULA, formula.tex, **attributes)
    return True


def _by_class(element: etree._Element, tag: str, names: set[str]) -> bool:
    if "MathJax_Preview" in names or "MJX_Assistive_MathML" in names:
        drop(element)
        return True
    if not names.isdisjoint(("katex", "katex-display", "katex-block", "katex--display", "katex--inline")):
        return _katex(element, names)
    if "katex-error" in names:
        return put(element, Formula(tidy(text_of(element))))
    if not names.isdisjoint(_DRAWN_BY_MATHJAX_2):
        return _mathjax_2(element, names)
    if "mwe-math-element" in names:
        return _mediawiki(element)
    return bool(not names.isdisjoint(_RAW) or _has_attribute(element)) and _raw(element, tag, names)


def _has_attribute(element: etree._Element) -> bool:
    return any(element.get(name) for name in _ATTRIBUTES)


def _local(element: etree._Element) -> str:
    return element.tag.rpartition(":")[2] if isinstance(element.tag, str) else ""


def _find_math(element: etree._Element) -> etree._Element | None:
    return next((child for child in element.iter() if _local(child) == "math"), None)


def annotation(element: etree._Element) -> str:
    """TeX that MathML carries in an `<annotation>`, or an empty text."""
    for child in element.iter("annotation", "m:annotation", "mml:annotation"):
        if (child.get("encoding") or "").lower() in _TEX_ENCODINGS:
            tex = tidy(text_of(child))
            if tex:
                return tex
    return ""


def math_formula(math: etree._Element) -> Formula:
    """The formula of a `<math>` element: its annotation, its alternative text, or its MathML written as TeX."""
    display = math.get("display") == "block" or math.get("mode") == "display"
    tex = annotation(math)
    alternative = (math.get("alttext") or "").strip()
    if not tex and alternative and (looks_like_tex(alternative) or "ltx_" in math.get("class", "")):
        tex = tidy(alternative)
    return Formula(tex or mathml_to_tex(math), display)


def _math(element: etree._Element) -> bool:
    return put(element, math_formula(element))


def _script(element: etree._Element) -> bool:
    kind = (element.get("type") or "").lower()
    display = "mode=display" in kind.replace(" ", "")
    if kind.startswith("math/tex") or kind.startswith("math/latex"):
        return put(element, Formula(tidy(text_of(element)), display))
    if kind.startswith("math/mml"):
        return put(element, _from_markup(text_of(element), display))
    return False


def _from_markup(markup: str, display: bool) -> Formula | None:
    """The formula of MathML that stands in an attribute or a script."""
    tree = parse(markup)
    math = _find_math(tree) if tree is not None else None
    if math is None:
        return None
    found = math_formula(math)
    return Formula(found.tex, found.is_display or display)


def _katex(element: etree._Element, names: set[str]) -> bool:
    parent = element.getparent()
    outer = set(class_names(parent)) if parent is not None else set()
    display = not (names | outer).isdisjoint(("katex-display", "katex-block", "katex--display", "math-display"))
    math = _find_math(element)
    if math is not None:
        found = math_formula(math)
        return put(element, Formula(found.tex, found.is_display or display))
    text = text_of(element)
    found = delimited(text)
    return put(element, found or Formula(tidy(text), display))


def _mathjax_2(element: etree._Element, names: set[str]) -> bool:
    """A drawing by MathJax 2: its script follows, or it carries MathML, or its drawn characters are all there is."""
    display = any("isplay" in name for name in names)
    if _script_follows(element):
        drop(element)
        return True
    for child in element.iter():
        if child.get("data-mathml"):
            return put(element, _from_markup(child.get("data-mathml", ""), display))
    math = _find_math(element)
    if math is not None:
        found = math_formula(math)
        return put(element, Formula(found.tex, found.is_display or display))
    if element.find("script") is not None:
        return False
    found = delimited(text_of(element))
    return put(element, found or Formula(tidy(text_of(element)), display))


def _script_follows(element: etree._Element) -> bool:
    for node in (element, element.getparent()):
        follower = node.getnext() if node is not None else None
        if follower is not None and follower.tag == "script" and (follower.get("type") or "").startswith("math/"):
            return True
    return False


def _mathjax_3(element: etree._Element) -> bool:
    display = element.get("display") in ("true", "block")
    for child in element.iter():
        tex = child.get("data-latex") if isinstance(child.tag, str) else None
        if tex:
            return put(element, Formula(tidy(tex), display))
    math = _find_math(element)
    if math is None:
        math = drawing_to_mathml(element)
    if math is None:
        return put(element, Formula(tidy(text_of(element)), display))
    found = math_formula(math)
    return put(element, Formula(found.tex, display or found.is_display))


def _mediawiki(element: etree._Element) -> bool:
    display = any("display" in (child.get("class") or "") for child in element.iter() if isinstance(child.tag, str))
    math = _find_math(element)
    if math is not None:
        found = math_formula(math)
        return put(element, Formula(found.tex, found.is_display or display))
    image = next(element.iter("img"), None)
    return put(element, image_formula(image)) if image is not None else False


def _image(element: etree._Element) -> bool:
    if element.get("data-mathml"):
        return put(element, _from_markup(element.get("data-mathml", "").translate(_WIRIS), False))
    formula = image_formula(element)
    return formula is not None and put(element, formula)


def _raw(element: etree._Element, tag: str, names: set[str]) -> bool:
    """A container whose attribute or whole text is TeX."""
    display = tag in ("div", "p", "pre", "section") or any("display" in name or "block" in name for name in names)
    display = display or element.get("data-math-style") == "display" or element.get("data-display") == "true"
    for name in _ATTRIBUTES:
        value = element.get(name)
        if value:
            return put(element, delimited(value) or Formula(tidy(value), display))
    if "ql-formula" in names and element.get("data-value"):
        return put(element, Formula(tidy(element.get("data-value", ""))))
    if "latex-rendered" in names and element.get("data-attrs"):
        return put(element, _substack(element.get("data-attrs", "")))
    number = _take_number(element)
    text = text_of(element)
    if len(text) > _MAX_RAW_CHARACTERS or element.find(".//math") is not None or element.find(".//script") is not None:
        return False
    found = delimited(text)
    if found is not None:
        return put(element, Formula(found.tex, found.is_display or (display and tag != "span"), number))
    if "js-render-math" in names:
        return put(element, Formula(tidy(text), display, number))
    is_bare = len(element) == 0 and looks_like_tex(text) and "$" not in text and r"\(" not in text and r"\[" not in text
    return is_bare and put(element, Formula(tidy(text), display, number))


def _raw_var(element: etree._Element) -> bool:
    """`<var>` holds TeX on contest sites."""
    text = element.text or ""
    return len(element) == 0 and "\\" in text and looks_like_tex(text) and put(element, Formula(tidy(text)))


def _take_number(element: etree._Element) -> str:
    """Remove the equation number a page prints inside the container, and return it."""
    for child in element.iter("span"):
        if "eqno" in (child.get("class") or "").split():
            number = (child.text or "").strip()
            drop(child)
            return number
    return ""


def _substack(attributes: str) -> Formula | None:
    try:
        tex = json.loads(attributes).get("persistentExpression", "")
    except (ValueError, AttributeError):
        return None
    return Formula(tidy(str(tex)), True)


_BY_TAG = {
    "math": _math,
    "script": _script,
    "img": _image,
    "mjx-container": _mathjax_3,
    "mjx-assistive-mml": lambda element: put(element, None),
    "var": _raw_var,
    "math-renderer": lambda element: _raw(element, "span", {"math"}),
}
