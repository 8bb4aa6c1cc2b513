"""Benchmark files: JSON lines, each with fields that hold a question, a solution or a program."""

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.decontaminate.index import DEFAULT_NGRAM_WORDS, BenchmarkText
from megatron_mimo.platform.files import open_text


@dataclass(kw_only=True)
class BenchmarkConfig:
    """The files of one benchmark."""

    name: str
    files: str
    """Glob pattern of `.jsonl` or `.jsonl.gz` files."""
    fields: list[str] = field(default_factory=lambda: ["question"])
    """Fields to protect; each is its own text. A list of texts in a field counts as one text."""
    id_field: str | None = None
    """Field with the item's name; null names it by file and line."""


@dataclass(kw_only=True)
class DecontaminateConfig:
    """What `megatron-mimo decontaminate BENCHMARKS.yaml` reads."""

    output_dir: str
    benchmarks: list[BenchmarkConfig]
    ngram_words: int = DEFAULT_NGRAM_WORDS

    def __post_init__(self) -> None:
        if self.ngram_words < 2:
            raise ConfigError("ngram_words", self.ngram_words, "must be 2 or more")


def benchmark_texts(config: BenchmarkConfig) -> Iterator[BenchmarkText]:
    """The texts of a benchmark; raises UserError where there is no file, or a line lacks a field."""
    paths = sorted(glob.glob(config.files, recursive=True))
    if not paths:
        raise UserError(f"benchmark {config.name}: no file matches {config.files!r}; correct its files pattern")
    for path in paths:
        yield from _file_texts(config, path)


def _file_texts(config: BenchmarkConfig, path: str) -> Iterator[BenchmarkText]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                item = f"{Path(path).name}:{number}" if config.id_field is None else str(record[config.id_field])
                texts = [_as_text(record[name]) for name in config.fields]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: not a JSON object with the fields {config.fields} ({error}); correct the"
                    f" line, or fields and id_field of benchmark {config.name}"
                ) from error
            yield from (BenchmarkText(config.name, item, text) for text in texts)


def _as_text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
