"""Problems whose own words stand in training data, so that a score can be given on the others too.

Training data is known by one of two folders that the data step makes:

- an index of n-grams of training texts (`megatron-mimo decontaminate`, whose `benchmarks` are then the training files);
- shards of documents that its step dropped or marked (`Decontaminate`): the n-grams that they were found by.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from megatron_mimo.config import UserError
from megatron_mimo.data.decontaminate.index import NgramIndex, load_index
from megatron_mimo.data.decontaminate.step import METADATA_KEY
from megatron_mimo.data.decontaminate.words import normalized_words
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.eval.protocol import EvalProblem


class KnownTexts(Protocol):
    """Finds words of training data."""

    def shared(self, text: str) -> str | None:
        """An n-gram that the text shares with the training data; None: nothing."""
        ...


@dataclass(frozen=True)
class IndexedTexts:
    """Texts in an index of n-grams."""

    index: NgramIndex

    def shared(self, text: str) -> str | None:
        return next((match.ngram for match in self.index.find(text)), None)


class FoundNgrams:
    """N-grams that the data step found in documents."""

    def __init__(self, ngrams: Iterable[str]) -> None:
        """`ngrams`: normalized words with single spaces."""
        self._by_length: dict[int, set[str]] = defaultdict(set)
        for ngram in ngrams:
            self._by_length[len(ngram.split(" "))].add(ngram)

    def shared(self, text: str) -> str | None:
        words = normalized_words(text)
        for length, known in self._by_length.items():
            places = range(len(words) - length + 1)
            found = (ngram for place in places if (ngram := " ".join(words[place : place + length])) in known)
            if (ngram := next(found, None)) is not None:
                return ngram
        return None


def known_texts(folder: str) -> KnownTexts:
    """Read either kind of folder; raises UserError for one that is neither."""
    if (Path(folder) / "index.safetensors").is_file():
        return IndexedTexts(load_index(folder))
    shards = shard_paths(folder)
    if not shards:
        raise UserError(
            f"contamination: {folder} is neither an index (megatron-mimo decontaminate) nor a folder of shards that "
            "the step `decontaminate` dropped or marked"
        )
    documents = (document for shard in shards for document in read_documents(shard))
    return FoundNgrams(match["ngram"] for document in documents for match in document.metadata.get(METADATA_KEY, ()))


def contaminated(problems: Iterable[EvalProblem], known: KnownTexts) -> dict[str, str]:
    """Problem's id -> the n-gram that it shares with the training data."""
    found = ((problem.id, known.shared(own_words(problem))) for problem in problems)
    return {name: ngram for name, ngram in found if ngram is not None}


def own_words(problem: EvalProblem) -> str:
    """A problem without instruction and examples, which training data may hold many times."""
    return problem.question or problem.prompt or "\n".join(message["content"] for message in problem.messages)
