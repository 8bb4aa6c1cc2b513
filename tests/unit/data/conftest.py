"""A small data folder of three sources with recognisable text, made once by the real job."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_mimo.config import DataConfig
from megatron_mimo.data.tokens.preprocess import PreprocessConfig, SourceConfig, TokenizerConfig, preprocess

SOURCES = {"letters": 300, "words": 200, "numbers": 100}
"""Name -> number of documents."""


def documents(source: str) -> list[str]:
    """Texts of different lengths that name their source and number."""
    return [f"{source} document {i}: " + f"{source} {i} " * (i % 13 + 1) for i in range(SOURCES[source])]


@pytest.fixture(scope="session")
def preprocess_config(tmp_path_factory: pytest.TempPathFactory) -> PreprocessConfig:
    folder = tmp_path_factory.mktemp("raw")
    for source in SOURCES:
        lines = [json.dumps({"id": f"{source}-{i}", "text": text}) for i, text in enumerate(documents(source))]
        (folder / f"{source}.jsonl").write_text("\n".join(lines) + "\n")
    return PreprocessConfig(
        output_dir=str(tmp_path_factory.mktemp("data") / "tokenized"),
        tokenizer=TokenizerConfig(vocab_size=280),
        sources=[
            SourceConfig(name=name, domain="web", jsonl=str(folder / f"{name}.jsonl"), valid_share=0.2)
            for name in SOURCES
        ],
    )


@pytest.fixture(scope="session")
def data_folder(preprocess_config: PreprocessConfig) -> Path:
    """Read-only: tests that damage files take a copy."""
    preprocess(preprocess_config, report=lambda line: None)
    return Path(preprocess_config.output_dir)


@pytest.fixture(scope="session")
def data_config(data_folder: Path) -> DataConfig:
    return DataConfig(path=str(data_folder), tokenizer=str(data_folder / "tokenizer"), num_workers=0)


@pytest.fixture
def write_mixture(tmp_path: Path) -> Callable[[str], Path]:
    """Write a mixture file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "mixture.yaml"
        path.write_text(text)
        return path

    return write
