"""PDF -> Markdown from the file's own text: columns, paragraphs, code and scripts by the place of each character.

What is not done: pages that are pictures (no text: an error says so; `mineru.py` reads them), formulas as TeX (their
characters come out as Unicode with `^` and `_`), table grids (rows become lines). pdfium is not thread-safe: use
processes.
"""

import time

import pypdfium2

from megatron_mimo.config import UserError
from megatron_mimo.data.extract.pdf_blocks import to_markdown
from megatron_mimo.data.extract.pdf_characters import read_sides
from megatron_mimo.data.extract.pdf_glyphs import form_runs
from megatron_mimo.data.extract.pdf_layout import PageLines, drop_running_lines, order_lines


class PdfError(UserError):
    """A PDF that gives no text; `reason` is one of a few constant words, for counting."""

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"PDF error: {reason}: {way_out}")
        self.reason = reason


def extract_pdf(data: bytes, timeout_seconds: float = 30.0) -> str:
    """The text of a PDF file in Markdown, code in fences; the clock (processor time) is read after every page.

    Raises PdfError with reason `encrypted`, `broken`, `no text` or `timeout`.
    """
    document = _open(data)
    try:
        pages = _read_pages(document, time.process_time() + timeout_seconds)
    finally:
        document.close()
    drop_running_lines(pages)
    text = to_markdown([page.lines for page in pages])
    if not text.strip():
        raise PdfError("no text", "its pages are pictures or empty; an optical reader is needed")
    return text


def _open(data: bytes) -> pypdfium2.PdfDocument:
    try:
        document = pypdfium2.PdfDocument(data)
        number = len(document)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise PdfError("encrypted", "it opens with a password only; give a file without one") from error
        raise PdfError("broken", f"it cannot be opened ({error}); get the file again") from error
    if not number:
        raise PdfError("broken", "it has no pages; get the file again")
    return document


def _read_pages(document: pypdfium2.PdfDocument, deadline: float) -> list[PageLines]:
    """The lines of every page; a page that cannot be read is left out as long as another one can."""
    pages = []
    for index in range(len(document)):
        try:
            pages += _read_page(document[index])
        except pypdfium2.PdfiumError:
            continue
        if time.process_time() > deadline:
            raise PdfError("timeout", f"page {index + 1} of {len(document)} was reached; raise timeout_seconds")
    if not pages:
        raise PdfError("broken", "none of its pages can be read; get the file again")
    return pages


def _read_page(page: pypdfium2.PdfPage) -> list[PageLines]:
    """The lines of a page; text in another direction than most of it follows as a page of its own."""
    text_page = page.get_textpage()
    try:
        sides = read_sides(text_page, page.get_bbox())
        return [order_lines(form_runs(side.glyphs), side.height) for side in sides] or [PageLines([], 0.0)]
    finally:
        text_page.close()
        page.close()
