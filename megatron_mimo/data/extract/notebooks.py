"""Notebooks (nbconvert, nbviewer, JupyterLab's export): prompts go, outputs become plain text blocks."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.dom import CODE, drop, has_class
from megatron_mimo.data.extract.words import words

_PROMPTS = words(
    """
    prompt input_prompt output_prompt jp-InputPrompt jp-OutputPrompt jp-InputArea-prompt jp-OutputArea-prompt
    anchor-link out_prompt_overlay jp-Collapser nbinput-prompt
    """
)  # fmt: skip
_OUTPUTS = re.compile(
    r"(?:^|\s)(?:output|output_\w+|jp-OutputArea-\w+|jp-RenderedText|cell_output|nboutput|output_area)(?:\s|$)"
)
_INPUTS = re.compile(
    r"(?:^|\s)(?:input|input_area|jp-InputArea\S*|jp-Editor|cell_input|nbinput|jp-CodeMirrorEditor)(?:\s|$)"
)
_PYTHON = re.compile(r"hl-(\w+)")
_PAGE = words("jp-Notebook jp-Cell code_cell nbinput cell_input notebook text_cell")
_LEVELS = 8


def is_notebook(present: set[str]) -> bool:
    """Whether a page with these classes is a notebook."""
    return not present.isdisjoint(_PAGE)


def mark_cells(body: etree._Element) -> None:
    """Drop prompts; call outputs `text` and inputs by the kernel's language."""
    for element in list(body.iterdescendants("div", "a", "span")):
        if has_class(element, _PROMPTS):
            drop(element)
    for code in body.iter(CODE):
        kind = _cell_kind(code)
        if kind == "output":
            code.set("language", "text")
        elif kind == "input" and not code.get("language"):
            code.set("language", "python")


def _cell_kind(code: etree._Element) -> str:
    node = code.getparent()
    for _ in range(_LEVELS):
        if node is None:
            break
        names = node.get("class") or ""
        if _INPUTS.search(names):
            return "input"
        if _OUTPUTS.search(names):
            return "output"
        node = node.getparent()
    return ""
