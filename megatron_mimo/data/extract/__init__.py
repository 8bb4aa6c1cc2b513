"""Extraction: web pages -> Markdown with TeX, mathematics, code and forums kept.

    from megatron_mimo.data.extract import extract, extract_html
    text = extract_html(html, "https://example.org/page")
    page = extract(content, url="https://example.org/page", favor="recall")  # bytes or text; .text .title .date ...

How the result is written:

* Inline formulas `$...$`; display formulas `$$...$$` in a block of their own, an equation number after them. TeX in
  running text between `$`, `\\(` or `\\[` is left as it is. Nothing is escaped for Markdown but `|` in tables.
* Code blocks in fences with the language when the page tells it; the code is exact. Inline code in backticks.
* Headings `#`, lists `-` and `1.`, quotations `>`, pipe tables. Tables that only lay a page out become plain blocks;
  items of a list inside a cell are set apart by `;`.
* Emphasis, link targets and images are left out; struck text reads `~~10~~`; superscripts outside mathematics read
  `x^2`, subscripts `H_2O`. Text is composed (NFC), code is not touched.
* Forums: the title as heading 1, then the posts in the page's order, set apart by `---`. Answers of question sites
  stand under `## Answer`; comments under `## Comment`, replies to them one heading level deeper for every step.
* Pages that declare themselves an article (`og:type`, linked data): the headline is `Extraction.title`, not in the
  text, and what readers wrote below is left out, unless `headline` or `comments` ask for it. The step `extract` keeps
  headlines.
* Notebooks: cells in order, outputs as fences of language `text`.

The way of a page: `dom.parse` -> `head` (what it says of itself) -> `atoms` (formulas and code become single
elements) -> `forums`, or `blocks` -> `block_features` -> `block_model` -> `choose` -> `markdown`. What is matter is
decided block by block from structure, place and the names of elements; what those mean was learned from pages with
hand-made truth (`block_training`): no rule reads words of any language. `extract_step.Extract` runs it over documents
with limits on time and size; `megatron-mimo extract FILE --why` shows what became of each block.
"""

from megatron_mimo.data.encoding import decode
from megatron_mimo.data.extract.page import Extraction, Link, extract, extract_html

__all__ = ["Extraction", "Link", "decode", "extract", "extract_html"]
