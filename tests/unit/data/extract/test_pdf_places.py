"""PDF pages whose reading order, words or directions are not those of a plain page: the text is known, made here."""

import pytest
from fpdf import FPDF

from megatron_mimo.data.extract.pdf import extract_pdf, read_pdf
from support.page_scoring import normalise_prose
from support.pdf_files import LEFT_MARGIN, Paper


def column(name: str, lines: int = 14) -> list[str]:
    return [f"{name} line {number} runs on to the edge" for number in range(lines)]


def unicode_paper() -> Paper:
    fonts = pytest.importorskip("matplotlib.font_manager")
    paper = Paper()
    paper.add_font("DejaVu", fname=fonts.findfont("DejaVu Sans"))
    paper.set_font("DejaVu", size=11)
    return paper


def write_across(paper: Paper, columns: list[list[str]], lefts: list[float], top: float) -> None:
    """The lines of all columns row by row: the order in the file is not the reading order."""
    for place, row in enumerate(zip(*columns, strict=True)):
        for text, left in zip(row, lefts, strict=True):
            paper.text(left, top + 5 * place, text)


def test_three_columns_written_row_by_row() -> None:
    paper = Paper()
    paper.set_font("Times", size=9)
    columns = [column("first"), column("second"), column("third")]
    write_across(paper, columns, [15, 78, 141], 40)
    assert normalise_prose(extract_pdf(paper.data())) == " ".join(line for lines in columns for line in lines)


def test_two_columns_with_a_narrow_gutter() -> None:
    """Ragged lines whose longest ones leave less than a wide gap to the other column."""
    paper = Paper()
    left = [f"left column {number} " + "and so on " * (2 + number % 3) for number in range(12)]
    left = [line.strip() for line in left]
    gutter = LEFT_MARGIN + max(paper.get_string_width(line) for line in left) + 4
    right = [f"right column {number} with its own words" for number in range(12)]
    write_across(paper, [left, right], [LEFT_MARGIN, gutter], 40)
    assert normalise_prose(extract_pdf(paper.data())) == " ".join(left + right)


def test_columns_go_on_beside_a_figure() -> None:
    """Labels of a figure at the head of the left column do not fill it; the right column is read whole."""
    paper = Paper()
    left, right = column("left", 20), column("right", 20)
    for number in range(5):
        paper.text(30 + 11 * (number % 3), 40 + 5 * number, f"label{number}")
    write_across(paper, [left[5:], right[5:]], [LEFT_MARGIN, 110], 65)
    for place in range(5):
        paper.text(110, 40 + 5 * place, right[place])
    text = normalise_prose(extract_pdf(paper.data()))
    assert " ".join(right) in text
    assert " ".join(left[5:]) in text


def test_column_below_full_width_text() -> None:
    paper = Paper()
    paper.paragraph("A summary goes over the whole width of the page before its columns begin. " * 6)
    left, right = column("left"), column("right")
    write_across(paper, [left, right], [LEFT_MARGIN, 110], 90)
    text = normalise_prose(extract_pdf(paper.data()))
    assert text.endswith(" ".join(left + right))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_text_is_upright(degrees: int) -> None:
    """A sideways line beside ordinary text: read in its own direction, after the rest."""
    paper = Paper()
    paper.paragraph("The page itself is upright and longer than what stands in its margin.")
    with paper.rotation(degrees, 100, 150):
        paper.text(60, 150, "Turned words in one line")
        paper.text(60, 156, "and a second one.")
    expected = [
        "The page itself is upright and longer than what stands in its margin.",
        "Turned words in one line and a second one.",
    ]
    assert [normalise_prose(part) for part in extract_pdf(paper.data()).strip().split("\n\n")] == expected


def test_landscape_page() -> None:
    """A page with /Rotate 90 whose text is drawn sideways, as scanners and slide makers write it."""
    paper = Paper()
    with paper.rotation(90, 105, 148):
        for place, text in enumerate(["Slides are wider than high.", "Their second line follows the first."]):
            paper.text(40, 100 + 6 * place, text)
    document = bytes(paper.output()).replace(b"/Type /Page\n", b"/Type /Page\n/Rotate 90\n")
    assert b"/Rotate 90" in document
    assert normalise_prose(extract_pdf(document)) == "Slides are wider than high. Their second line follows the first."


def test_right_to_left_text_is_in_logical_order() -> None:
    """Hebrew drawn letter by letter from the right, as typesetters do."""
    paper, right = unicode_paper(), 180.0
    words = ["שלום", "עולם", "טוב"]
    at = right
    for word in words:
        for letter in word:
            at -= paper.get_string_width(letter)
            paper.text(at, 40, letter)
        at -= paper.get_string_width(" ")
    assert extract_pdf(paper.data()).strip() == " ".join(words)


def test_words_are_the_files_own() -> None:
    """Tight setting: spaces narrower than a fixed threshold would see, written as spaces."""
    paper = Paper()
    paper.set_font("Times", size=12)
    paper.set_char_spacing(-0.4)
    paper.text(30, 40, "the liability of online service providers in a case of fair use")
    assert extract_pdf(paper.data()).strip() == "the liability of online service providers in a case of fair use"


def test_letter_spaced_words() -> None:
    paper = Paper()
    paper.text(30, 40, "Some words before it, in their usual setting.")
    paper.text(30, 60, "C H A P T E R   T H R E E")
    assert "CHAPTER THREE" in extract_pdf(paper.data())


def test_characters_beyond_the_first_plane() -> None:
    paper = unicode_paper()
    paper.text(30, 40, "Let 𝔸 be a ring.")
    text = extract_pdf(paper.data())
    assert text.encode()
    assert "𝔸" in text


def test_rows_of_a_table() -> None:
    """A cell with a second line, an empty cell, a bar in a cell; no column is read downwards."""
    paper = Paper()
    paper.paragraph("Before the table stands a paragraph that is longer than its rows are, and after it one more.")
    rows = [("Name", "Year", "Use"), ("Ada", "1843", "notes"), ("Bob", "", "a|b"), ("Cleo", "1999", "speech and")]
    lefts = (LEFT_MARGIN, 70, 110)
    for place, row in enumerate(rows):
        for left, cell in zip(lefts, row, strict=True):
            paper.text(left, 60 + 5 * place, cell)
    paper.text(lefts[2], 80, "song")
    paper.text(LEFT_MARGIN, 100, "After the table stands another paragraph.")
    assert extract_pdf(paper.data()).strip().split("\n\n")[1].split("\n") == [
        "| Name | Year | Use |",
        "| --- | --- | --- |",
        "| Ada | 1843 | notes |",
        r"| Bob |  | a\|b |",
        "| Cleo | 1999 | speech and song |",
    ]


def test_list_marks_with_wide_gaps_are_no_table() -> None:
    paper = Paper()
    for place, text in enumerate(["first of all", "second to none", "third in line", "fourth on the way"]):
        paper.text(LEFT_MARGIN, 40 + 5 * place, f"{place + 1}.")
        paper.text(LEFT_MARGIN + 15, 40 + 5 * place, text)
    text = extract_pdf(paper.data())
    assert "|" not in text
    assert "3. third in line" in normalise_prose(text)


def test_doubtful_order_is_the_files_own_and_counted() -> None:
    """Ragged text on both sides of a gap, neither columns nor a table."""
    paper = FPDF()
    paper.add_page()
    paper.set_font("Times", size=10)
    lefts = [f"remark {number} of the left side" for number in range(12)]
    rights = [f"answer {number} on the right side" for number in range(12)]
    for number, text in enumerate(lefts):
        paper.text(15 + 17 * (number % 3), 40 + 7 * number, text)
    for number, text in enumerate(rights):
        paper.text(112 + 17 * (number % 3), 42 + 7 * number, text)
    found = read_pdf(bytes(paper.output()))
    assert normalise_prose(found.text) == " ".join(lefts + rights)
    assert (found.pages, found.unread_pages) == (1, 0)
