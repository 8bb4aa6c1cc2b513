"""PDF files with known text, made by fpdf2."""

from collections.abc import Callable, Sequence

from fpdf import FPDF
from fpdf.enums import EncryptionMethod

LEFT_MARGIN, TOP_MARGIN = 20.0, 25.0
"""Millimetres."""


class Paper(FPDF):
    """A4 pages with an optional running header (page -> text) and page numbers."""

    def __init__(self, header_text: Callable[[int], str] | None = None, numbered: bool = False) -> None:
        super().__init__()
        self.header_text, self.numbered = header_text, numbered
        self.set_margins(LEFT_MARGIN, TOP_MARGIN, LEFT_MARGIN)
        self.set_auto_page_break(True, 25)
        self.add_page()
        self.set_font("Times", size=11)

    def header(self) -> None:
        if self.header_text:
            self.set_font("Times", "I", 9)
            self.text(LEFT_MARGIN, 12, self.header_text(self.page_no()))
            self.set_font("Times", size=11)

    def footer(self) -> None:
        if self.numbered:
            self.set_font("Times", size=9)
            self.text(104, 288, str(self.page_no()))
            self.set_font("Times", size=11)

    def paragraph(self, text: str, width: float = 0) -> None:
        """Justified text followed by some space; `width` in millimetres, 0 to the right margin."""
        self.multi_cell(width, 5, text, align="J", new_x="LEFT", new_y="NEXT")
        self.ln(3)

    def heading(self, text: str) -> None:
        self.set_font("Times", "B", 16)
        self.multi_cell(0, 8, text, new_x="LEFT", new_y="NEXT")
        self.set_font("Times", size=11)
        self.ln(2)

    def code(self, text: str) -> None:
        self.set_font("Courier", size=9)
        for line in text.split("\n"):
            self.cell(0, 4, line, new_x="LMARGIN", new_y="NEXT")
        self.set_font("Times", size=11)
        self.ln(3)

    def lines(self, texts: Sequence[str], left: float, top: float) -> None:
        """Lines of text at a fixed place, 5 mm apart."""
        for place, text in enumerate(texts):
            self.text(left, top + 5 * place, text)

    def columns(self, left: Sequence[str], right: Sequence[str], top: float) -> None:
        """Two columns, written line by line across the page: the order in the file is not the reading order."""
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            self.text(LEFT_MARGIN, top + 5 * place, one)
            self.text(110, top + 5 * place, other)

    def data(self) -> bytes:
        return bytes(self.output())


def encrypted_pdf() -> bytes:
    """A file that opens with a password only."""
    paper = Paper()
    paper.paragraph("Nobody may read this.")
    paper.set_encryption("owner", user_password="secret", encryption_method=EncryptionMethod.RC4)
    return paper.data()
