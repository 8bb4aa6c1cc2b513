"""Extraction: web pages -> Markdown with TeX, mathematics, code and forums kept.

    from megatron_mimo.data.extract import extract_html
    text = extract_html(html, "https://example.org/page")

How the result is written:

* Inline formulas `$...$`; display formulas `$$...$$` in a block of their own, an equation number behind them. TeX that
  stands in running text between `$`, `\\(` or `\\[` is left as it is. Nothing is escaped for Markdown.
* Code blocks in fences with the language when the page tells it; the code is exact. Inline code in backticks.
* Headings `#`, lists `-` and `1.`, quotations `>`, pipe tables. Tables that only lay a page out become plain blocks.
* Emphasis, link targets and images are left out; superscripts outside mathematics read `x^2`, subscripts `H_2O`.
* Forums: the title as heading 1, then the posts in the page's order, set apart by `---`. Answers of question sites
  stand under `## Answer`; comments under `## Comment`, replies to them one heading level deeper for every step.
* Notebooks: cells in order, outputs as fences of language `text`.

The way of a page: `dom.parse` -> `atoms` (formulas and code become single elements) -> `forums` or `main_content` ->
`markdown`. `extract_step.Extract` runs it over documents with limits on time and size.
"""

from megatron_mimo.data.extract.encoding import decode
from megatron_mimo.data.extract.page import extract_html

__all__ = ["decode", "extract_html"]
