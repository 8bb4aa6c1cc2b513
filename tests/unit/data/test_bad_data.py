"""Damaged or foreign data: one error that names the file, the cause and the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_mimo.config import DataConfig, UserError
from megatron_mimo.data.loading.datasets import build_stage_dataset, build_validation_datasets
from megatron_mimo.data.tokens import indexed

MIXTURE = "sources: {letters: 1}"


@pytest.fixture
def damaged(data_folder: Path, tmp_path: Path) -> DataConfig:
    """A copy of the data to damage."""
    copy = tmp_path / "copy"
    shutil.copytree(data_folder, copy)
    return DataConfig(path=str(copy), tokenizer=str(copy / "tokenizer"))


def error_of(data: DataConfig, mixture: Path, verify: bool = False) -> str:
    """The text of the error that opening the data raises; checks that it fits on a screen."""
    with pytest.raises(UserError) as caught:
        build_stage_dataset(data, mixture, seq_length=16, num_samples=10, seed=0, verify=verify)
    text = str(caught.value)
    assert len(text.splitlines()) < 10
    assert len(text) < 1000
    return text


def cut(path: Path, size_bytes: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(size_bytes)


def flip_byte(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0xFF
    path.write_bytes(raw)


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "missing idx": ("idx", Path.unlink, "is missing"),
    "missing bin": ("bin", Path.unlink, "is missing"),
    "empty idx": ("idx", lambda path: cut(path, 0), "is truncated"),
    "idx cut in its header": ("idx", lambda path: cut(path, 20), "is truncated"),
    "idx cut behind its header": ("idx", lambda path: cut(path, 100), "is truncated or corrupt"),
    "bin cut": ("bin", lambda path: cut(path, path.stat().st_size - 2), "is truncated"),
    "bin with a tail": ("bin", lambda path: path.write_bytes(path.read_bytes() + b"ab"), "is longer"),
    "idx magic": ("idx", lambda path: flip_byte(path, 0), "is corrupt or no Megatron index"),
    "idx dtype": ("idx", lambda path: flip_byte(path, 17), "is corrupt or no Megatron index"),
    "idx document count": ("idx", lambda path: flip_byte(path, 18), "is truncated or corrupt"),
    "idx lengths": ("idx", lambda path: flip_byte(path, 40), "is corrupt: its SHA-256"),
    "bin tokens": ("bin", lambda path: flip_byte(path, 500), "is corrupt: its SHA-256"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_file(case: str, damaged: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    kind, damage, cause = DAMAGE[case]
    path = Path(damaged.path) / f"letters_train.{kind}"
    damage(path)
    text = error_of(damaged, write_mixture(MIXTURE))
    assert str(path) in text
    assert cause in text
    assert "megatron-mimo data" in text


def test_damage_in_a_source_that_is_not_mixed_in_does_no_harm(
    damaged: DataConfig, write_mixture: Callable[[str], Path]
) -> None:
    (Path(damaged.path) / "words_train.bin").unlink()
    assert len(build_stage_dataset(damaged, write_mixture(MIXTURE), 16, 10, 0)) == 10


def test_big_files_are_verified_on_request_only(
    damaged: DataConfig, write_mixture: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed, "VERIFIED_BYTES", 100)
    flip_byte(Path(damaged.path) / "letters_train.bin", 500)
    mixture = write_mixture(MIXTURE)
    build_stage_dataset(damaged, mixture, 16, 10, 0)
    assert "SHA-256" in error_of(damaged, mixture, verify=True)


def test_damaged_held_out_split(damaged: DataConfig) -> None:
    cut(Path(damaged.path) / "words_valid.bin", 10)
    with pytest.raises(UserError, match=r"words_valid.bin is truncated: 10 bytes"):
        build_validation_datasets(damaged, 16, 4)


def test_folder_without_manifest(tmp_path: Path, write_mixture: Callable[[str], Path]) -> None:
    text = error_of(DataConfig(path=str(tmp_path), tokenizer=str(tmp_path)), write_mixture(MIXTURE))
    assert str(tmp_path) in text
    assert "no manifest.json" in text.replace("there is ", "")
    assert "data.path" in text


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"tokenizer": {}, "sources": {}}'])
def test_damaged_manifest(content: str, damaged: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    (Path(damaged.path) / "manifest.json").write_text(content)
    text = error_of(damaged, write_mixture(MIXTURE))
    assert "manifest.json is damaged" in text
    assert "overwrite=true" in text


def test_tokenizer_of_other_data(damaged: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    path = Path(damaged.tokenizer) / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "2.0"}))
    text = error_of(damaged, write_mixture(MIXTURE))
    assert "does not match the data" in text
    assert damaged.tokenizer in text
    assert "data.tokenizer" in text


def test_source_that_the_data_lacks(data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    mixture = write_mixture("sources: {letters: 0.5, poems: 0.5}")
    text = error_of(data_config, mixture)
    assert str(mixture) in text
    assert "'poems'" in text
    assert "letters, words, numbers" in text


def test_held_out_split_shorter_than_a_sequence(data_config: DataConfig) -> None:
    with pytest.raises(UserError, match="fewer than one sequence"):
        build_validation_datasets(data_config, 1_000_000, 4)
