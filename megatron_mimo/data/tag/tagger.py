"""What every tagger can do, and reading one from its folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from megatron_mimo.config import UserError
from megatron_mimo.data.tag.schema import Tags


class Tagger(Protocol):
    """Scores texts in batches."""

    kind: str

    def tag(self, texts: Sequence[str]) -> list[Tags]:
        """One set of tags a text, in order; the language is left empty."""
        ...

    def save(self, folder: Path) -> None:
        """Write a folder that `load_tagger` reads."""
        ...


def load_tagger(folder: str | Path) -> Tagger:
    """The tagger in a folder; raises UserError when there is none."""
    folder = Path(folder)
    try:
        description = json.loads((folder / "tagger.json").read_text(encoding="utf-8"))
        kind, settings = description["kind"], description["settings"]
        if kind == "linear":
            from megatron_mimo.data.tag.linear import LinearTagger

            return LinearTagger.load(folder, settings)
        if kind == "language_model":
            from megatron_mimo.data.tag.language_model import LanguageModelTagger

            return LanguageModelTagger.load(folder, settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"no tagger in {folder} ({error}): train one with megatron-mimo train-tagger") from error
    raise UserError(f"{folder}/tagger.json is of the unknown kind {kind!r}: known are linear, language_model")
