"""LaTeXML (arXiv HTML, ar5iv): equations laid out as tables, one display formula a row."""

import lxml.etree as etree

from megatron_mimo.data.extract.dom import FORMULA, become, clean, has_class, text_of
from megatron_mimo.data.extract.tex import math_formula

_EQUATIONS = frozenset(("ltx_equation", "ltx_equationgroup", "ltx_eqn_table"))
_NUMBERS = frozenset(("ltx_tag_equation", "ltx_tag_equationgroup"))


def mark_equations(element: etree._Element, tag: str, names: str) -> bool:
    """Replace a table of equations by its formulas; False when the element is something else."""
    if tag != "table" or _EQUATIONS.isdisjoint(names.split()):
        return False
    formulas = []
    for row in element.iter("tr"):
        tex = " ".join(math_formula(math).tex for math in row.iter("math"))
        number = next((text_of(span).strip() for span in row.iter("span") if has_class(span, _NUMBERS)), "")
        if tex:
            formulas.append((tex, number))
    become(element, "div")
    for tex, number in formulas:
        atom = etree.SubElement(element, FORMULA, display="1", number=clean(number))
        atom.text = clean(tex)
    return True
