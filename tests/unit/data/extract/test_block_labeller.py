"""A language model that labels blocks: what it reads, that batches change nothing, that it learns and decides."""

from pathlib import Path

import numpy as np
import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.extract import extract
from megatron_mimo.data.extract.block_labeller import (
    BlockLabeller,
    LabellerSettings,
    block_lines,
    windows_of,
)
from megatron_mimo.data.extract.block_training import blocks_of
from megatron_mimo.data.extract.blocks import Blocks
from megatron_mimo.data.extract.extract_step import Extract
from megatron_mimo.data.extract.head import Head
from megatron_mimo.data.extract.labeller_training import labelled_lines, main, train
from megatron_mimo.data.pipeline.step import Task

SETTINGS = LabellerSettings(
    vocab_size=300, hidden_size=32, ffn_hidden_size=64, num_layers=1, max_tokens=96, block_tokens=24, epochs=12,
    batch_size=8, learning_rate=1e-2, token_dropout=0.0,
)  # fmt: skip
WORDS = "tide moon water wave shore sand boat wind salt gull".split()  # noqa: SIM905


def record(number: int) -> dict:
    """A page whose frame has other names than its matter."""
    generator = np.random.default_rng(number)
    sentences = [" ".join(generator.choice(WORDS, 6)).capitalize() + "." for _ in range(4)]
    rows = list(zip(["gnarf", "blurb", "gnarf", "blurb"], sentences, strict=True))
    generator.shuffle(rows)
    html = "".join(f'<div class="{name}">{text}</div>' for name, text in rows)
    wanted, unwanted = ([text for name, text in rows if name == kind] for kind in ("blurb", "gnarf"))
    return {
        "id": str(number), "url": f"https://site{number}.example/", "html": f"<title>Tides</title><body>{html}",
        "with": wanted, "without": unwanted,
    }  # fmt: skip


@pytest.fixture(scope="module")
def labeller() -> BlockLabeller:
    pages = [page for number in range(48) if (page := labelled_lines(record(number))) is not None]
    return train(pages, SETTINGS)


def test_every_block_stands_in_one_window_that_begins_with_the_title() -> None:
    rows = [[1, 2], *([at] * (at % 7 + 1) for at in range(3, 40)), list(range(100))]
    windows = windows_of(rows, 16)
    assert sum(len(window.ends) for window in windows) == len(rows) - 1
    assert all(window.tokens[:2] == [1, 2] and len(window.tokens) <= 16 for window in windows)
    assert [window.tokens[end] for window in windows for end in window.ends] == [*range(3, 40), 13]


def test_a_line_names_the_block_its_boxes_and_its_links() -> None:
    opened = blocks_of('<title>T</title><body><main class="mainBox"><ul id=menu><li><a href=x>Go there</a></ul>')
    assert opened is not None
    title, line = block_lines(*opened)
    assert title == "T" and line.startswith("\n<ul menu <main .main-box main box") and line.endswith("9: Go there")


def test_windows_side_by_side_change_no_verdict(labeller: BlockLabeller) -> None:
    model = labeller.model.eval()
    windows = windows_of([[7], *([at] * (at % 9 + 1) for at in range(1, 60))], 32)
    expected = [model([window]).detach().numpy() for window in windows]
    assert np.allclose(model(windows).detach().numpy(), np.concatenate(expected), atol=1e-5)


def test_it_learns_and_comes_back(labeller: BlockLabeller, tmp_path: Path) -> None:
    new = record(1000)
    opened = blocks_of(new["html"])
    assert opened is not None
    logits = labeller.logits(*opened)
    assert [block.text in new["with"] for block in opened[0].blocks] == (logits > 0).tolist()
    labeller.save(tmp_path)
    assert np.allclose(BlockLabeller.load(tmp_path).logits(*opened), logits, atol=1e-5)


def test_it_decides_with_the_block_model(labeller: BlockLabeller, tmp_path: Path) -> None:
    class Loud:
        """The same verdicts, surer of them."""

        def logits(self, found: Blocks, head: Head) -> np.ndarray:
            return 20 * labeller.logits(found, head)

    new = record(1001)
    text = extract(new["html"], labeller=Loud()).text
    assert all(sentence in text for sentence in new["with"]) and not any(part in text for part in new["without"])
    labeller.save(tmp_path)
    step = Extract(labeller=str(tmp_path), timeout_seconds=60)
    found = list(step.run([Document("1", new["html"])], Task()))
    assert found[0].text == extract(new["html"], headline=True, labeller=labeller).text


def test_a_folder_without_a_labeller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labeller_training"):
        BlockLabeller.load(tmp_path)
    with pytest.raises(UserError, match="no pages"):
        main([str(tmp_path), "--output", str(tmp_path / "out")])
