"""The extractor on the pages of tests/pages: the bars it must hold, and that the truth files are true."""

import html
import re
import time

import pytest

from megatron_mimo.data.extract import decode, extract_html
from support.page_scoring import Page, Score, read_pages, score_page

LEAST_PERCENT = {"formulas": 94.0, "code": 95.0, "prose": 97.0}
MOST_LEAKED_PERCENT = 4.0
MOST_SECONDS_A_PAGE = 1.0


@pytest.fixture(scope="module")
def total() -> Score:
    score = Score()
    for page in read_pages():
        score.add(score_page(page, extract_html(decode(page.content), page.url)))
    return score


@pytest.mark.parametrize("measure", LEAST_PERCENT)
def test_kept(total: Score, measure: str) -> None:
    missed = [item for kind, item in total.misses if kind == measure]
    assert total.percent(measure) >= LEAST_PERCENT[measure], missed


def test_boilerplate_left_out(total: Score) -> None:
    leaked = [item for kind, item in total.misses if kind == "boilerplate"]
    assert total.percent("boilerplate") <= MOST_LEAKED_PERCENT, leaked


def test_the_set_is_large_and_varied() -> None:
    pages = read_pages()
    assert len(pages) >= 48
    assert len({page.kind for page in pages}) >= 40


@pytest.mark.parametrize("page", read_pages(), ids=lambda page: page.name)
def test_page_holds_its_prose_and_boilerplate(page: Page) -> None:
    """Each named string is in the page's text, and no sentence to keep contains a string to drop."""
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page.html, flags=re.S | re.I)
    flat = re.sub(r"\s", "", html.unescape(text))
    for item in [*page.prose, *page.boilerplate]:
        assert re.sub(r"\s", "", item) in flat
    assert not any(drop in keep for keep in page.prose for drop in page.boilerplate)


@pytest.mark.parametrize("page", [page for page in read_pages() if page.encoding != "utf-8"], ids=lambda p: p.name)
def test_declared_encoding_is_used(page: Page) -> None:
    assert decode(page.content) == page.html


def test_no_page_is_slow() -> None:
    for page in read_pages():
        text = decode(page.content)
        start = time.process_time()
        extract_html(text, page.url)
        assert time.process_time() - start < MOST_SECONDS_A_PAGE, page.name
