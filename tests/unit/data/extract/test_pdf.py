"""PDF to Markdown, on files made here whose text is known."""

import re
from collections.abc import Callable
from random import Random

import pytest

from megatron_mimo.data.extract.pdf import PdfError, extract_pdf
from megatron_mimo.data.extract.pdf_blocks import join_lines
from support.page_scoring import find_fences, normalise_prose
from support.pdf_files import LEFT_MARGIN, Paper, encrypted_pdf

FIRST = (
    "The towers of the old bridge were raised in a single summer, although the masons had been promised two. "
    "Nobody remembers who persuaded them, and the accounts of the town are silent about the price. "
    "What the accounts do mention is the beer, which came from three breweries and was paid by the barrel."
)
SECOND = (
    "A later flood took one of the arches, and for eleven years the crossing was closed to carts. "
    "The replacement was built of a different stone, as anyone can see who stands on the northern bank."
)
CODE = """def walk(tree, depth=0):
    for name, child in sorted(tree.items()):
        print("  " * depth + name)
        if child:
            walk(child, depth + 1)

    return depth


walk({"a": {"b": {}}})"""


def paragraphs(text: str) -> list[str]:
    return [normalise_prose(paragraph) for paragraph in re.split(r"\n\s*\n", text)]


def test_paragraphs_are_whole() -> None:
    paper = Paper()
    paper.paragraph(FIRST)
    paper.paragraph(SECOND)
    assert paragraphs(extract_pdf(paper.data())) == [FIRST, SECOND]


def test_indented_paragraphs_without_space_between() -> None:
    paper = Paper()
    paper.lines(
        ["The first paragraph fills this line up to the end of", "its column and ends on the second line of it"], 30, 40
    )
    paper.lines(
        [
            "The next one is told by its indentation and nothing",
        ],
        36,
        50,
    )
    paper.lines(["else, as it is usual in books and in old journals all"], 30, 55)
    text = paragraphs(extract_pdf(paper.data()))
    assert [paragraph.split()[1] for paragraph in text] == ["first", "next"]


def test_heading_and_list() -> None:
    paper = Paper()
    paper.heading("Of bridges")
    paper.paragraph(SECOND)
    paper.lines(["1. Count the arches.", "2. Count the towers."], LEFT_MARGIN, 90)
    text = paragraphs(extract_pdf(paper.data()))
    assert text == ["## Of bridges", SECOND, "1. Count the arches.", "2. Count the towers."]


def test_two_columns_below_a_title() -> None:
    left = [f"left column line {number} goes on to its right edge" for number in range(12)]
    right = [f"right column line {number} goes on to its right end" for number in range(12)]
    paper = Paper()
    paper.lines(
        ["A title that spans both of the columns and the gutter that lies between the two, by A. Nonymous"], 20, 30
    )
    paper.columns(left, right, 45)
    text = normalise_prose(extract_pdf(paper.data()))
    assert text.startswith("A title that spans")
    assert " ".join(left) + " " + " ".join(right) in text


def test_table_rows_are_not_columns() -> None:
    paper = Paper()
    paper.paragraph(FIRST)
    for place, (name, value) in enumerate([("Ada", "36"), ("Bob", "41"), ("Cleo", "29"), ("Dan", "55"), ("Eve", "18")]):
        paper.text(LEFT_MARGIN, 100 + 5 * place, name)
        paper.text(120, 100 + 5 * place, value)
    rows = extract_pdf(paper.data()).strip().split("\n\n")[-1].split("\n")
    assert rows == ["| Ada | 36 |", "| --- | --- |", "| Bob | 41 |", "| Cleo | 29 |", "| Dan | 55 |", "| Eve | 18 |"]


def test_words_broken_at_line_ends() -> None:
    paper = Paper()
    paper.lines(["The well-known theorem on inter-", "polation is older than this well-", "known proof of it."], 30, 40)
    text = normalise_prose(extract_pdf(paper.data()))
    assert text == "The well-known theorem on interpolation is older than this well-known proof of it."


def test_join_lines_of_chinese_text() -> None:
    assert join_lines(["这座桥建于", "一个夏天。", "It is old."], set()) == "这座桥建于一个夏天。 It is old."


HEADERS = {
    "same on each page": lambda page: "Annals of Small Bridges 12 (1987)",
    "title of the section and page": lambda page: (
        f"Annals of {('stone', 'iron', 'rope', 'wood')[page % 4]}  {page + 80}"
    ),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_running_lines_are_dropped(header: Callable[[int], str]) -> None:
    paper = Paper(header, numbered=True)
    rng = Random(4)
    texts = [" ".join(rng.choices(FIRST.lower().split(), k=50)) + "." for _ in range(60)]
    for text in texts:
        paper.paragraph(text)
    assert paper.page_no() >= 3
    text = extract_pdf(paper.data())
    assert "Annals" not in text
    assert paragraphs(text) == texts


def test_code_keeps_lines_and_indentation() -> None:
    paper = Paper()
    paper.paragraph(FIRST)
    paper.code(CODE)
    paper.paragraph(SECOND)
    text = extract_pdf(paper.data())
    assert [block.strip("\n") for block in find_fences(text)] == [CODE]
    assert normalise_prose(text).startswith(FIRST)
    assert normalise_prose(text).endswith(SECOND)


def test_ligatures_are_letters() -> None:
    fonts = pytest.importorskip("matplotlib.font_manager")
    paper = Paper()
    paper.add_font("DejaVu", fname=fonts.findfont("DejaVu Sans"))
    paper.set_font("DejaVu", size=11)
    paper.text(30, 40, "The of\ufb01cial \ufb02ow is ef\ufb01cient.")
    assert extract_pdf(paper.data()) == "The official flow is efficient.\n"


def test_scripts_by_position_and_symbols() -> None:
    paper = Paper()
    paper.set_font("Times", size=12)
    paper.c_margin = 0
    paper.cell(text="Water is H", h=6)
    paper.char_vpos = "SUB"
    paper.cell(text="2", h=6)
    paper.char_vpos = "LINE"
    paper.cell(text="O and the area is r", h=6)
    paper.char_vpos = "SUP"
    paper.cell(text="2", h=6)
    paper.char_vpos = "LINE"
    paper.cell(text=" ± 0.5", h=6)
    assert "Water is H_2O and the area is r^2 ± 0.5" in extract_pdf(paper.data())


def test_encrypted_broken_and_empty_files() -> None:
    sound = Paper().data()
    cases = {"encrypted": encrypted_pdf(), "broken": b"%PDF-1.4 nothing more", "no text": sound}
    for reason, data in cases.items():
        with pytest.raises(PdfError, match=reason) as caught:
            extract_pdf(data)
        assert caught.value.reason == reason


def outcome(data: bytes) -> str:
    try:
        extract_pdf(data)
    except PdfError as error:
        return error.reason
    return "text"


def test_truncated_file_does_not_crash() -> None:
    paper = Paper()
    paper.paragraph(FIRST)
    data = paper.data()
    assert {outcome(data[: int(len(data) * share)]) for share in (0.1, 0.5, 0.9, 0.99)} <= {"broken", "no text", "text"}


def test_damaged_files_end_in_text_or_pdf_error() -> None:
    paper = Paper()
    paper.set_compression(False)
    paper.paragraph(FIRST)
    paper.code(CODE)
    sound, rng = paper.data(), Random(1)
    reasons = set()
    for _ in range(80):
        damaged = bytearray(sound)
        for _ in range(30):
            damaged[rng.randrange(len(damaged))] = rng.choice(b"0123456789 ()[]<>/Tdjm\x00\xff")
        reasons.add(outcome(bytes(damaged)))
    assert reasons <= {"broken", "no text", "text"}
    assert "text" in reasons


def test_time_limit() -> None:
    paper = Paper()
    for _ in range(3):
        paper.paragraph(FIRST)
    with pytest.raises(PdfError, match="timeout"):
        extract_pdf(paper.data(), timeout_seconds=1e-6)
