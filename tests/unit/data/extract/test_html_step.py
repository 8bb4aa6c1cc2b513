# ruff: noqa: E501 - markup and patterns read best unbroken
"""The step: what it passes on, what it drops and why; pages that are made to break it; any input at all."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.extract import Extraction, extract_html, extract_step
from megatron_mimo.data.extract.extract_step import Extract
from megatron_mimo.data.pipeline.step import Task

PAGE = "<html><body><h1>Tides</h1><p>The moon pulls on the sea.</p></body></html>"


def run(step: Extract, *texts: str, media_type: str = "text/html") -> tuple[list[Document], Task]:
    task = Task()
    documents = [Document(f"dump:{at}", text, metadata={"media_type": media_type}) for at, text in enumerate(texts)]
    return list(step.run(documents, task)), task


def test_a_page_becomes_clean_text() -> None:
    documents, task = run(Extract(), PAGE)
    assert documents[0].text == "# Tides\n\nThe moon pulls on the sea."
    assert documents[0].metadata["media_type"] == "text/markdown"
    assert task.counts["extract/characters"] == len(documents[0].text)


def test_other_media_pass_unchanged() -> None:
    documents, _ = run(Extract(), "<b>x</b>", media_type="application/json")
    assert documents[0].text == "<b>x</b>"


def test_empty_and_large_pages_are_dropped_with_their_reason() -> None:
    documents, task = run(
        Extract(max_bytes=1000), PAGE, "<html><body><nav>Menu</nav></body></html>", "", "é" * 600, PAGE
    )
    assert [document.id for document in documents] == ["dump:0", "dump:4"]
    assert task.counts["extract/dropped/empty"] == 2
    assert task.counts["extract/dropped/too large"] == 1


def test_a_slow_page_is_dropped_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def spin(html: str, url: str, **options: object) -> Extraction:
        while html == "slow":
            pass
        return Extraction(html)

    monkeypatch.setattr(extract_step, "extract", spin)
    start = time.process_time()
    documents, task = run(Extract(timeout_seconds=0.1), "a", "slow", "b")
    assert [document.text for document in documents] == ["a", "b"]
    assert task.counts["extract/dropped/timeout"] == 1
    assert 0.05 <= time.process_time() - start < 0.5


def test_a_fault_is_noted_with_its_place_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(html: str, url: str, **options: object) -> Extraction:
        if html == "bad":
            raise RuntimeError("no such thing")
        return Extraction(html)

    monkeypatch.setattr(extract_step, "extract", fail)
    documents, task = run(Extract(), "a", "bad", "b")
    assert [document.text for document in documents] == ["a", "b"]
    assert (task.faults[0].place, task.faults[0].error) == ("dump:1", "RuntimeError: no such thing")


def test_it_works_off_the_main_thread() -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.extend(document.text for document in run(Extract(), PAGE)[0]))
    thread.start()
    thread.join()
    assert results == ["# Tides\n\nThe moon pulls on the sea."]


@pytest.mark.parametrize("options", [{"timeout_seconds": 0}, {"timeout_seconds": float("nan")}, {"max_bytes": 0}])
def test_bad_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Extract(**options)  # type: ignore[arg-type]


BOMBS = {
    "div": "<div>" * 100_000 + "deep" + "</div>" * 100_000,
    "span": "<p>" + "<span>x" * 100_000,
    "list": "<ul><li>x" * 100_000,
    "table": "<table><tr><td>x" * 50_000,
    "mathml": "<p>x<math>" + "<mrow>" * 100_000 + "<mi>x</mi>",
    "fraction": "<p>x<math>" + "<mfrac><mi>x</mi>" * 50_000,
    "pre": "<pre>" + "<span>x" * 100_000,
    "katex": '<span class="katex">x' * 50_000,
    "math class": '<span class="math">x' * 50_000,
    "quote": "<blockquote>x" * 50_000,
    "angle brackets": "<" * 1_000_000,
    "dollars": "<p>" + "$ " * 500_000,
    "class": f'<p class="{"a " * 1_000_000}">x',
    "spans of cells": "<table>" + ("<tr>" + '<td rowspan="50" colspan="50">x</td>' * 50 + "</tr>") * 50 + "</table>",
    "displaystyle": '<math alttext="' + "{\\displaystyle " * 50_000 + '">',
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_quick_and_small(name: str) -> None:
    start = time.process_time()
    text = extract_html(BOMBS[name], "")
    assert time.process_time() - start < 1.0
    assert len(text) < 20 * len(BOMBS[name])


def test_text_below_the_depth_limit_is_kept_flat() -> None:
    html = "<div>" * 400 + "<p>Some deep words.</p>" + "</div>" * 400
    assert "Some deep words." in extract_html(html, "")


PIECES = st.sampled_from(
    ["<p>", "</p>", "<div>", "</div>", '<div_class="math">', '<span_class="katex">', '<span_class="MathJax">', "<math>", "<mfrac>", "<msup>", "<mtable>", "<mtr>", "<mtd>", "<mi>", "x", "</mi>", "</math>", '<annotation_encoding="application/x-tex">', '<script_type="math/tex">', "</script>", "<mjx-container>", '<mjx-c_class="mjx-cFFFFFFF">', '<img_alt="\\frac{a}{b"_class="latex">', '<img_src="https://latex.codecogs.com/gif.latex?%FF%zz">', "<pre>", "</pre>", "<code>", "</code>", "<br>", "<table>", "<tr>", "<td>", "</table>", '<td_class="code">', '<td_class="linenos">', '<td_colspan="-1"_rowspan="99999999999">', '<ol_start="x">', "<ul>", "<li>", '<a_href="x">', "</a>", "<h1>", "</h1>", "<sup>", "</sup>", "<sub>", "<blockquote>", '<div_class="question">', '<div_class="s-prose">', '<div_class="commtext">', '<td_class="ind"_indent="²">', '<shreddit-comment_depth="²">', '<div_slot="comment">', '<textarea_id="read-only-cursor-text-area">', '<div_class="syntaxhighlighter">', '<div_class="line">', "<figure>", "<nav>", "<footer>", "<html>", "<body>", "<frameset>", "<!--", "-->", "<![CDATA[", "]]>", "<?xml?>", "&lt;", "&#1;", "&#x110000;", "&nbsp;", "$", "$$", "\\(", "\\[", "```", "|", "*", "_", "1", "2", "2²", "a.", "<svg>", "<template>", "<style>", '<div_style="display:none">', '<div_class="latex-rendered"_data-attrs="[1]">', '<table_class="ltx_equation">', "<mmultiscripts>", "<mprescripts/>", "<none/>", "<munder>", '<mspace_width="1..em"/>', '<mfenced_open=""_separators="">', "\x00", "�", "😀"]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=8), max_size=60))
@settings(max_examples=250, deadline=None)
def test_any_markup_gives_a_text(pieces: list[str]) -> None:
    text = extract_html("".join(piece.replace("_", " ", 1) if piece.startswith("<") else piece for piece in pieces), "")
    assert isinstance(text, str)
    assert "\x00" not in text


@given(st.text(max_size=400), st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_string_gives_a_text(html: str, url: str) -> None:
    assert isinstance(extract_html(html, url), str)
