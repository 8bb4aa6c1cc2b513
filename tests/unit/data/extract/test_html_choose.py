# ruff: noqa: E501 - markup reads best unbroken
"""What structure demands of the model's verdicts, whatever they are."""

import numpy as np
import pytest

from megatron_mimo.data.extract import choose as choose_module
from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.block_names import NameWeights
from megatron_mimo.data.extract.blocks import find_blocks
from megatron_mimo.data.extract.choose import Favor, choose
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.head import read_head

SENTENCE = "The tide turns twice a day because the moon passes overhead and underfoot, as every fisher knows."
NAMES = NameWeights({"navheader": -3.0})


@pytest.fixture(autouse=True)
def _pages_count_as_large(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "small" not in request.node.name:
        monkeypatch.setattr(choose_module, "_SOME_BLOCKS", 0)


def kept(html: str, logits: dict[str, float], favor: Favor = "balanced", head: str = "") -> list[str]:
    """The blocks that stay; `logits` by how a block's text begins, 3 for the others."""
    root = parse(f"<html><head>{head}</head><body>{html}</body></html>")
    assert root is not None
    body = root.find("body")
    assert body is not None
    mark_atoms(body)
    found = find_blocks(body)
    values = [
        next((value for key, value in logits.items() if block.text.startswith(key)), 3.0) for block in found.blocks
    ]
    verdicts = choose(found, np.array(values, np.float32), read_head(root), NAMES, favor)
    return [block.text[:12] for block, verdict in zip(found.blocks, verdicts, strict=True) if verdict.is_kept]


def test_a_heading_goes_with_what_it_heads() -> None:
    html = f"<h1>Title</h1><p>{SENTENCE}</p><h2>Tags</h2><p>a, b, c</p><h2>Parts</h2><h3>First</h3><p>{SENTENCE}</p>"
    assert kept(html, {"a, b": -3}) == ["Title", SENTENCE[:12], "Parts", "First", SENTENCE[:12]]
    assert kept(html, {}) == ["Title", SENTENCE[:12], "Tags", "a, b, c", "Parts", "First", SENTENCE[:12]]


def test_a_page_of_headings_keeps_them() -> None:
    assert kept("<h1>One</h1><h2>Two</h2><h2>Three</h2>", {}) == ["One", "Two", "Three"]


def test_code_stays_with_its_text() -> None:
    html = f"<p>{SENTENCE}</p><pre>x = 1\ny = 2</pre><div><pre>ads()</pre></div>"
    assert "x = 1 y = 2" in kept(html, {"x = 1": -6})


def test_a_term_stays_with_its_meaning() -> None:
    html = f"<dl><dt>spring tide</dt><dd>{SENTENCE}</dd><dt>ads</dt><dd>buy now</dd></dl>"
    assert kept(html, {"spring": -2, "ads": -2, "buy": -2}) == ["spring tide", SENTENCE[:12]]


def test_frame_elements_need_more() -> None:
    html = f"<main><p>{SENTENCE}</p></main><nav><p>Where to go</p></nav><div role=contentinfo><p>Imprint</p></div><aside class=note><p>Mind the tide.</p></aside>"
    assert kept(html, {"Where": 1, "Imprint": 1, "Mind": 1}) == [SENTENCE[:12], "Mind the tid"]


def test_documents_of_generators_stay_whole() -> None:
    html = f"<div class=navheader><p>Up</p></div><div><p>{SENTENCE}</p><p>Delete</p></div>"
    assert kept(html, {"Up": -2, "Delete": -2}) == [SENTENCE[:12]]
    generator = '<meta name="generator" content="DocBook XSL Stylesheets V1.79.1">'
    assert kept(html, {"Up": -2, "Delete": -2}, head=generator) == [SENTENCE[:12], "Delete"]
    sphinx = f"<div class=bodywrapper><div class=body role=main><p>{SENTENCE}</p><p>Delete</p><nav><p>Up</p></nav></div></div>"
    assert kept(sphinx, {"Up": -2, "Delete": -6}) == [SENTENCE[:12], "Delete"]


@pytest.mark.parametrize(
    "frame", ["<form>", "<div class='x noprint'>", "<div role=status>", "<address>", "<table class=ambox>"]
)
def test_what_is_asked_or_said_about_a_document_is_no_part_of_it(frame: str) -> None:
    inner = "<tr><td><p>Was it of use?</p></td></tr>" if "table" in frame else "<p>Was it of use?</p>"
    html = f"<div class=bodywrapper><p>{SENTENCE}</p><p>Delete</p>{frame}{inner}</div>"
    assert kept(html, {"Was": 2, "Delete": -2}) == [SENTENCE[:12], "Delete"]


def test_a_lost_page_is_judged_anew() -> None:
    html = "".join(f"<p>{number} {SENTENCE}</p>" for number in range(6)) + "<p>Subscribe</p>"
    logits = {str(number): -1.2 for number in range(6)} | {"Subscribe": -9}
    assert len(kept(html, logits)) == 6


def test_favor_moves_the_bar() -> None:
    html = f"<p>{SENTENCE * 5}</p><p>unsure</p><p>doubtful</p>"
    found = {
        favor: len(kept(html, {"unsure": 0.5, "doubt": -0.9}, favor)) for favor in ("precision", "balanced", "recall")
    }  # type: ignore[arg-type]
    assert found == {"precision": 1, "balanced": 2, "recall": 3}


def test_a_small_page_keeps_what_is_no_sure_frame() -> None:
    html = f"<p>{SENTENCE}</p><p>Delete</p><p>September 1, 1939</p><div class=navheader><p>Up</p></div><p><a href=x>Elsewhere</a></p>"
    logits = {"Delete": -4, "September": -4, "Up": -1, "Elsewhere": -1}
    assert kept(html, logits) == [SENTENCE[:12], "Delete", "September 1,"]
