"""What is said of a stage's data before it is trained."""

import json
from pathlib import Path

from megatron_mimo.training.training_data import PretrainingData
from support.tiny import tiny_config, tiny_tree, write_run


def notes_of(data: Path, folder: Path, mixture: str, samples: int, seq_length: int = 64) -> list[str]:
    tree = tiny_tree(data, folder / "run")
    tree["stages"][0]["seq_length"] = seq_length
    write_run(folder, tree)
    (folder / "stage1.yaml").write_text(mixture)
    return PretrainingData(tiny_config(tree), folder).stage_notes(0, samples)


def test_epochs_by_source_are_those_of_the_samples(tiny_data: Path, tmp_path: Path) -> None:
    manifest = json.loads((tiny_data / "manifest.json").read_text())
    tokens = {name: source["train"]["tokens"] for name, source in manifest["sources"].items()}
    (line,) = notes_of(tiny_data, tmp_path, "sources: {prose: 0.75, digits: 0.25}", 40)
    expected = {"prose": 30 * 64 / tokens["prose"], "digits": 10 * 64 / tokens["digits"]}
    assert line == "stage stage1: epochs by source: " + ", ".join(f"{n} {e:,.2g}" for n, e in expected.items())


def test_sources_too_small_for_their_weight_are_named(tiny_data: Path, tmp_path: Path) -> None:
    """D21: read many times over, and repeated inside a sample."""
    _, digits = notes_of(tiny_data, tmp_path, "sources: {prose: 0.01, digits: 0.99}", 2000)
    assert digits.startswith("  digits is read ")
    notes = notes_of(tiny_data, tmp_path, "sources: {prose: 0.5, digits: 0.5}", 4, seq_length=32768)
    assert any("digits has" in note and "repeats them up to" in note for note in notes)


def test_rounded_weights_are_said(tiny_data: Path, tmp_path: Path) -> None:
    notes = notes_of(tiny_data, tmp_path, "sources: {prose: 1234567, digits: 7654321}", 10)
    assert notes[-1] == "  weights of stage1.yaml are rounded to 20,000ths"
