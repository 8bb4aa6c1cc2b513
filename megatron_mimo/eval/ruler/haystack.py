"""Texts that needles are hidden in, and the words that keys and lists are made of.

`essay` haystacks are any prose: a file or folder given by the task's `path`, `ruler_essays` or NVIDIA's
`PaulGrahamEssays.json` in the data folder, else the documentation that every Python installation carries
(`data/nano/corpus_text.py`).
"""

import json
import random
import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.data.nano.corpus_text import help_texts, prose_texts
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.eval.ruler.form import Needle
from megatron_mimo.platform.files import open_text

NAMES = ("ruler_essays", "PaulGrahamEssays")
FORMS = (".txt", ".json", ".jsonl", ".txt.gz", ".jsonl.gz", ".jsonl.zst", "")
NOISE = ("The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.")
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
WORD = re.compile(r"\b[a-z]{4,12}\b")
SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
MIN_WORDS = 200


@dataclass(frozen=True)
class Haystack:
    """One text; `name` says where it came from."""

    text: str
    name: str

    @cached_property
    def tokens(self) -> list[str]:
        """What stands between spaces."""
        return self.text.split()

    @cached_property
    def words(self) -> list[str]:
        """Its different words of small letters."""
        return sorted(set(WORD.findall(self.text)))

    def sentences(self, size: int) -> list[str]:
        """Of the first `size` words; the text is repeated where it is shorter."""
        repeats = -(-size // len(self.tokens))
        return SENTENCE_END.split(" ".join((self.tokens * repeats)[:size]))


def find_haystack(folder: str, path: str | None) -> Haystack:
    """The text of `path`, of the data folder, or Python's documentation. Raises UserError for one without words."""
    places = [Path(path), Path(folder) / path] if path else [Path(folder) / f"{name}{form}" for name in NAMES
                                                             for form in FORMS]  # fmt: skip
    found = next((place for place in places if place.exists()), None)
    if found is None and path:
        raise UserError(f"RULER: no haystack {path}: give a text file, JSON lines with `text`, or a folder of shards")
    text = documentation() if found is None else read_prose(found)
    haystack = Haystack(" ".join(text.split()), "the documentation of Python" if found is None else str(found))
    if len(haystack.words) < MIN_WORDS:
        raise UserError(f"RULER: {haystack.name} has only {len(haystack.words)} different words: give a longer text")
    return haystack


def documentation() -> str:
    """Python's language reference, or, where a distribution has left it out, docstrings of the standard library."""
    return "\n".join(text for _, text in help_texts()) or "\n".join(text for _, text in prose_texts())


def read_prose(path: Path) -> str:
    """A text file, JSON or JSON lines with `text`, or a folder of the data step's shards. Raises UserError."""
    if path.is_dir():
        return "\n".join(document.text for shard in shard_paths(path) for document in read_documents(shard))
    with open_text(path) as file:
        content = file.read()
    if ".json" not in path.suffixes and not path.name.endswith(".json"):
        return content
    try:
        rows: list[Any] = [json.loads(line) for line in content.split("\n") if line.strip()]
        rows = rows[0] if rows and isinstance(rows[0], list) else rows
        return "\n".join(str(row["text"]) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no haystack of RULER: its records need a `text` ({error})") from error


def random_needle(kind: Needle, words: list[str], rng: random.Random) -> str:
    """A key or a value: two words with a hyphen, seven digits, or a UUID."""
    if kind == "number":
        return str(rng.randrange(1_000_000, 10_000_000))
    if kind == "uuid":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return f"{rng.choice(words)}-{rng.choice(words)}"
