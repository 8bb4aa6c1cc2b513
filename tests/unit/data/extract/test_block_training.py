"""Labels from a truth, scores against it, and a model that learns what a made-up site calls its frame."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

from megatron_mimo.config import UserError
from megatron_mimo.data.extract import block_training
from megatron_mimo.data.extract.block_features import COLUMNS, assemble
from megatron_mimo.data.extract.block_labels import labels_of_sentences, labels_of_text, tokens
from megatron_mimo.data.extract.block_model import BlockModel, block_model, read_model, window_places, write_model
from megatron_mimo.data.extract.block_names import NameWeights, name_rows
from megatron_mimo.data.extract.blocks import find_blocks
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.text_scores import read_records, score_text, summary

WORDS = "tide moon water wave shore sand boat wind salt harbour gull rock storm cloud night morning sail rope net fish".split()  # noqa: SIM905, E501


def sentence(seed: int) -> str:
    generator = np.random.default_rng(seed)
    return " ".join(generator.choice(WORDS, 12)).capitalize() + "."


def page(number: int) -> dict:
    """Matter and frame look the same but for their names."""
    matter = [sentence(10 * number + at) for at in range(3)]
    frame = [sentence(10 * number + at) for at in range(5, 8)]
    rows = [("gnarf", text) for text in frame] + [("blurb", text) for text in matter]
    np.random.default_rng(number).shuffle(rows)
    html = "".join(f'<div class="{name}">{text}</div>' for name, text in rows)
    record = {"id": str(number), "set": "made", "url": f"https://site{number}.example/"}
    body = {"html_base64": base64.b64encode(f"<html><body>{html}".encode()).decode()}
    truth = {"truth": "\n".join(matter)} if number % 2 else {"with": matter, "without": frame}
    return record | body | truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    lines = [json.dumps(page(number)) + "\n" for number in range(40)]
    (folder / "a.jsonl").write_text("".join(lines[:20]))
    with zstandard.open(folder / "b.jsonl.zst", "wt") as file:
        file.writelines(lines[20:])
    return folder


def test_names_of_the_frame_are_learnt_and_hold_on_new_sites(folder: Path, capsys: pytest.CaptureFixture) -> None:
    output = folder / "model.npz"
    block_training.main([str(folder), "--output", str(output), "--report"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("made"))
    assert "40 pages" in line and float(line.split("R ")[1][:5]) > 0.9
    model = read_model(output)
    assert model.names.weights["gnarf"] < -1 and model.names.weights["blurb"] > 1
    record = page(100)
    record["html"] = base64.b64decode(record["html_base64"]).decode()
    example = block_training.example_of(record, 5)
    assert example is not None
    logits = model.logits(assemble(example.static, name_rows(example.names, model.names)))
    assert ((logits > 0) == (np.array(["blurb" in (names or ()) for names in example.names.blocks]))).all()


def test_the_numpy_model_computes_what_was_trained(folder: Path) -> None:
    import torch

    networks = [block_training._Network(7).eval() for _ in range(3)]
    model = BlockModel(np.zeros(7), np.ones(7), block_training._arrays(networks), NameWeights({}))
    rows = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    places = torch.from_numpy(window_places(23))
    logits = [network(torch.from_numpy(rows), places).detach().numpy() for network in networks]
    expected = np.mean(logits, axis=0)
    assert np.allclose(model.logits(rows), expected, atol=1e-5)


def test_a_model_for_other_features_is_refused(tmp_path: Path) -> None:
    model = block_model()
    write_model(model, tmp_path / "a.npz")
    again = read_model(tmp_path / "a.npz")
    assert again.names.weights.keys() == model.names.weights.keys() and again.mean.shape == (len(COLUMNS),)
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "b.npz", **(arrays | {"columns": arrays["columns"][::-1]}))
    with pytest.raises(ValueError, match="train it anew"):
        read_model(tmp_path / "b.npz")


def test_pages_beside_a_truth_in_yaml_are_read() -> None:
    records = list(read_records(Path(__file__).parents[3] / "pages"))
    record = next(record for record in records if record["id"] == "sphinx_furo_api")
    assert (
        record["set"] == "pages" and record["html"].lstrip().startswith("<!") and "Skip to content" in record["without"]
    )
    assert any(text.startswith("field = np.arange") for text in record["with"])
    example = block_training.example_of(record, 5)
    assert example is not None and {0.0, 1.0} <= set(example.labels.tolist())


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pages"):
        block_training.main([str(tmp_path)])


def test_labels() -> None:
    html = "<body><p>Home<p>Tides<p>The moon pulls the water up twice a day.<p>Read on"
    html += "<p>Two bulges follow it around the globe.<p>Tides"
    root = parse(html)
    assert root is not None
    blocks = find_blocks(root.find("body")).blocks  # type: ignore[arg-type]
    truth = "Tides\nThe moon pulls the water up twice a day. Read on\nTwo bulges follow it around the globe."
    labels, weights = labels_of_text(blocks, truth)
    assert labels.tolist() == [0, 1, 1, 1, 1, 1] and (weights > 0).all() and weights[2] > weights[0]
    labels, weights = labels_of_sentences(blocks, ["pulls the water"], ["Home", "Tides and Home"])
    assert np.isnan(labels[[1, 3, 4]]).all() and labels[0] == 0 and labels[2] == 1 and weights[1] == 0


def test_scores() -> None:
    assert tokens("Ab-c d_1 潮の満") == ["ab", "c", "d", "1", "潮", "の", "満"]
    exact = score_text({"truth": "a b b c"}, "A b\n\n`b` c")
    half = score_text({"truth": "a b b c"}, "a b x y")
    assert exact.f == 1 and (half.precision, half.recall) == (0.5, 0.5)
    some = score_text({"with": ["one two", "three"], "without": ["Menu", "four"]}, "**one** two\nMenu")
    assert (some.kept, some.wanted, some.leaked, some.unwanted) == (1, 2, 1, 2)
    whole = summary([exact, half, score_text({"truth": "a"}, "b")])
    assert whole.lost == 1 and whole.leak is None and whole.f == pytest.approx(0.5)
    assert summary([some]).precision == 0.5 and summary([some]).leak == 0.5


def test_records_are_read_in_order(folder: Path) -> None:
    records = list(read_records(folder))
    assert [record["id"] for record in records] == [str(number) for number in range(40)]
    assert all(record["html"].startswith("<html>") for record in records)
    assert block_training.site_of({"id": 1, "url": "https://news.bbc.co.uk/x"}) == "bbc.co.uk"
    assert block_training.site_of({"id": 1, "url": "https://a.b.example.de/x"}) == "example.de"
    assert block_training.site_of({"id": 1, "url": "nonsense"}) == "1"
