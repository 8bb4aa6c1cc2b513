"""PDF -> Markdown from the file's own text: columns, paragraphs, tables, code and scripts by the place of characters.

What is not done: pages that are pictures (no text: an error says so; `mineru.py` reads them), formulas as TeX (their
characters come out as Unicode with `^` and `_`), tables whose cells span rows. pdfium is not thread-safe: use
processes.
"""

import time
from dataclasses import dataclass

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


@dataclass(frozen=True)
class PdfText:
    """The text of a PDF in Markdown, and what is not certain of it."""

    text: str
    pages: int
    unsure_pages: int
    """Pages whose columns are in doubt: their text stands in the file's own order."""
    unread_pages: int
    """Pages that pdfium cannot read; the text lacks them."""


def extract_pdf(data: bytes, timeout_seconds: float = 30.0) -> str:
    """The text of a PDF file in Markdown, code in fences; the clock (processor time) is read after every page.

    Raises PdfError with reason `encrypted`, `broken`, `no text` or `timeout`.
    """
    return read_pdf(data, timeout_seconds).text


def read_pdf(data: bytes, timeout_seconds: float = 30.0) -> PdfText:
    """`extract_pdf` with what is not certain of its text."""
    document = _open(data)
    try:
        number = len(document)
        pages, unread = _read_pages(document, time.process_time() + timeout_seconds)
    finally:
        document.close()
    drop_running_lines(pages)
    text = to_markdown([page.lines for page in pages])
    if not text.strip():
        raise PdfError("no text", "its pages are pictures or empty; an optical reader is needed")
    return PdfText(text, number, sum(page.is_unsure for page in pages), unread)


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


def _read_pages(document: pypdfium2.PdfDocument, deadline: float) -> tuple[list[PageLines], int]:
    """The lines of every page, and how many pages cannot be read as long as another one can."""
    pages: list[PageLines] = []
    unread = 0
    for index in range(len(document)):
        try:
            pages += _read_page(document[index])
        except pypdfium2.PdfiumError:
            unread += 1
        if time.process_time() > deadline:
            raise PdfError("timeout", f"page {index + 1} of {len(document)} was reached; raise timeout_seconds")
    if unread == len(document):
        raise PdfError("broken", "none of its pages can be read; get the file again")
    return pages, unread


def _read_page(page: pypdfium2.PdfPage) -> list[PageLines]:
    """The lines of a page; text in another direction than most of it follows as a page of its own."""
    text_page = page.get_textpage()
    try:
        sides = read_sides(text_page, page.get_bbox())
        return [order_lines(form_runs(side.glyphs), side.height) for side in sides] or [PageLines([], 0.0)]
    finally:
        text_page.close()
        page.close()
