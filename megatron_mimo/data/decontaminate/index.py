"""The n-grams of benchmark texts: built once, saved, loaded by every task, of constant size.

A word that no benchmark holds cannot be part of a match, so documents are mapped to the benchmarks' own vocabulary. `w`
words of all benchmark texts, `k` n-grams, `i` texts.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from megatron_mimo.config import UserError
from megatron_mimo.data.decontaminate.ngrams import ngram_hashes, ngram_rows
from megatron_mimo.data.decontaminate.words import normalized_words
from megatron_mimo.platform.files import write_json

DEFAULT_NGRAM_WORDS = 16
"""Report, section 4.1: SFT queries with a 16-gram overlap with the benchmarks are removed."""
_UNKNOWN = -1


@dataclass(frozen=True)
class BenchmarkText:
    """One text of a benchmark: a question, a solution, a program."""

    benchmark: str
    item: str
    text: str


@dataclass(frozen=True)
class Match:
    """An n-gram that a document shares with a benchmark text."""

    benchmark: str
    item: str
    ngram: str
    """Normalized words with single spaces."""


class NgramIndex:
    """Exact look-up of n-grams: a hash finds candidates, all n words are compared."""

    def __init__(
        self,
        ngram_words: int,
        vocabulary: list[str],
        texts: list[tuple[str, str]],
        arrays: dict[str, np.ndarray],
    ) -> None:
        """`texts`: (benchmark, item) [i]; `arrays`: `words` int32 [w], `bounds` int64 [i + 1], `starts` int64 [k]."""
        self.ngram_words = ngram_words
        self.texts = texts
        self._vocabulary = {word: number for number, word in enumerate(vocabulary)}
        self._words, self._bounds, self._starts = arrays["words"], arrays["bounds"], arrays["starts"]
        self._hashes = ngram_hashes(self._words, ngram_words)[self._starts]  # [k], ascending
        self._shift = np.uint64(64 - _filter_bits(len(self._starts)))
        self._filter = np.zeros(2 ** _filter_bits(len(self._starts)), dtype=bool)
        self._filter[self._hashes >> self._shift] = True
        self._short = self._short_texts(vocabulary)

    @property
    def num_ngrams(self) -> int:
        """Different n-grams in the index."""
        return len(self._starts)

    def find(self, text: str, match_short: bool = True) -> list[Match]:
        """The benchmark texts that share an n-gram with the text, each once, with the first n-gram they share.

        An n-gram that stands in several benchmark texts names the first of them. With `match_short`, a document that
        is, as a whole, a benchmark text of fewer than n words matches it.
        """
        words = normalized_words(text)
        if len(words) < self.ngram_words:
            short = self._short.get(tuple(words)) if match_short else None
            return [] if short is None else [Match(*self.texts[short], " ".join(words))]
        numbers = np.array(list(map(self._vocabulary.get, words, repeat(_UNKNOWN))), dtype=np.int32)
        found: dict[int, Match] = {}
        for place, start in self._hits(numbers):
            number = int(np.searchsorted(self._bounds, start, side="right")) - 1
            if number not in found:
                found[number] = Match(*self.texts[number], " ".join(words[place : place + self.ngram_words]))
        return list(found.values())

    def _hits(self, numbers: np.ndarray) -> Iterator[tuple[int, int]]:
        """(place in the document, place in `words`) of each n-gram in common; `numbers`: [words of the document]."""
        places = _runs(numbers != _UNKNOWN, self.ngram_words)
        if not len(places):
            return
        hashes = ngram_hashes(numbers, self.ngram_words)[places]
        passed = self._filter[hashes >> self._shift]
        places, hashes = places[passed], hashes[passed]
        first = np.searchsorted(self._hashes, hashes, side="left")
        last = np.searchsorted(self._hashes, hashes, side="right")
        for place, low, high in zip(places.tolist(), first.tolist(), last.tolist(), strict=True):
            document = numbers[place : place + self.ngram_words]
            for start in self._starts[low:high].tolist():
                if np.array_equal(document, self._words[start : start + self.ngram_words]):
                    yield place, start
                    break

    def _short_texts(self, vocabulary: list[str]) -> dict[tuple[str, ...], int]:
        """Words of the texts that have no n-gram -> the first text made of them."""
        sizes = np.diff(self._bounds)
        short: dict[tuple[str, ...], int] = {}
        for number in np.flatnonzero((sizes > 0) & (sizes < self.ngram_words)).tolist():
            words = self._words[self._bounds[number] : self._bounds[number + 1]]
            short.setdefault(tuple(vocabulary[word] for word in words), number)
        return short

    def save(self, folder: Path) -> None:
        """Write `index.json` and `index.safetensors`; the folder is complete when the latter stands in it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.safetensors").unlink(missing_ok=True)
        names = {"ngram_words": self.ngram_words, "vocabulary": list(self._vocabulary), "texts": self.texts}
        write_json(folder / "index.json", names)
        temporary = folder / "index.safetensors.tmp"
        save_file({"words": self._words, "bounds": self._bounds, "starts": self._starts}, temporary)
        os.replace(temporary, folder / "index.safetensors")


def build_index(texts: Iterable[BenchmarkText], ngram_words: int = DEFAULT_NGRAM_WORDS) -> NgramIndex:
    """Index every n-gram of the texts."""
    vocabulary: dict[str, int] = {}
    numbered, names = [np.empty(0, dtype=np.int32)], []
    for text in texts:
        words = normalized_words(text.text)
        numbered.append(np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words], dtype=np.int32))
        names.append((text.benchmark, text.item))
    words = np.concatenate(numbered)
    bounds = np.cumsum([len(numbers) for numbers in numbered], dtype=np.int64)
    arrays = {"words": words, "bounds": bounds, "starts": _distinct_ngrams(words, bounds, ngram_words)}
    return NgramIndex(ngram_words, list(vocabulary), names, arrays)


def load_index(folder: str | Path) -> NgramIndex:
    """Read a saved index; raises UserError when there is none or it is damaged."""
    folder = Path(folder)
    try:
        names = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "index.safetensors")
        texts = [(str(benchmark), str(item)) for benchmark, item in names["texts"]]
        return NgramIndex(int(names["ngram_words"]), names["vocabulary"], texts, arrays)
    except (OSError, ValueError, KeyError, IndexError, SafetensorError) as error:
        raise UserError(
            f"{folder} is no index of benchmarks ({type(error).__name__}: {error}): make it with"
            "\n    megatron-mimo decontaminate BENCHMARKS.yaml"
        ) from error


def _distinct_ngrams(words: np.ndarray, bounds: np.ndarray, n: int) -> np.ndarray:
    """First places of the n-grams, none across two texts, sorted by hash, then by place: int64 [k]."""
    hashes = ngram_hashes(words, n)
    ends = np.repeat(bounds[1:], np.diff(bounds))[: len(hashes)]
    starts = np.flatnonzero(np.arange(len(hashes)) + n <= ends)
    starts = starts[np.argsort(hashes[starts], kind="stable")]
    rows_equal = np.zeros(len(starts), dtype=bool)
    same = np.flatnonzero(hashes[starts[1:]] == hashes[starts[:-1]]) + 1
    rows_equal[same] = (ngram_rows(words, starts[same], n) == ngram_rows(words, starts[same - 1], n)).all(axis=1)
    return starts[~rows_equal]


def _filter_bits(num_ngrams: int) -> int:
    """About 16 places of the filter an n-gram: few strangers pass it."""
    return min(30, max(10, (16 * num_ngrams).bit_length()))


def _runs(known: np.ndarray, length: int) -> np.ndarray:
    """Places at which `length` consecutive true values begin."""
    before = np.concatenate(([0], np.cumsum(known, dtype=np.int32)))
    return np.flatnonzero(before[length:] - before[:-length] == length)
