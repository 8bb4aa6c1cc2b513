"""Curation of problems (report section 3.1) as pipeline steps, before any model is asked.

| what goes | step |
|---|---|
| proofs, multiple choice, mathematics without an answer | `form` |
| code without tests | `form` |
| n-gram repetitions over all problems | `ngram_dedup` |
| golden solution fails a test | `golden` (golden.py: it needs a judge) |
| never solved by advanced models; solved too often by the trained one | `difficulty` (difficulty.py: it asks models) |
| in a benchmark | the data pipeline's `decontaminate` on the same documents |

`megatron-mimo curate-problems STEP` runs each of them from file to file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from megatron_mimo.config import ConfigError
from megatron_mimo.data.decontaminate.words import normalized_words
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.rl.problems.problem import Problem, from_document

PROOF = re.compile(
    r"\bprove\s+that\b|\bgive\s+a\s+proof\b|(?:^|[.!?:;]\s+|\n\s*)(?:prove\b|(?:show|demonstrate|verify)\s+that\b)",
    re.I,
)
CHOICES = re.compile(
    r"(?:^|[\s$])[(\[]?\\?(?:text(?:bf|rm)?\{)?[(\[]?A[)\].:}]+.{1,400}?(?:^|[\s$~])[(\[]?"
    r"\\?(?:text(?:bf|rm)?\{)?[(\[]?B[)\].:}]+.{1,400}?(?:^|[\s$~])[(\[]?\\?(?:text(?:bf|rm)?\{)?[(\[]?C[)\].:}]+",
    re.S,
)
LETTER = re.compile(r"\(?[A-E]\)?\.?")


def fault_of_form(problem: Problem) -> str | None:
    """Why a problem cannot be verified, or None."""
    if not problem.prompt.strip():
        return "no prompt"
    if problem.kind == "code":
        return None if problem.tests else "no tests"
    if not problem.answer.strip():
        return "no answer"
    if CHOICES.search(problem.prompt) or (
        re.search(r"which of the following", problem.prompt, re.I) and LETTER.fullmatch(problem.answer.strip())
    ):
        return "multiple choice"
    return "proof" if PROOF.search(problem.prompt) else None


@dataclass(kw_only=True)
class ProblemForm:
    """Drops what no rule can verify."""

    name: ClassVar[str] = "form"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            reason = fault_of_form(from_document(document))
            if reason is None:
                yield document
            else:
                task.drop(document, self.name, reason)


@dataclass(kw_only=True)
class NgramDedup:
    """Drops a problem that shares most of its word n-grams with one earlier one of the task; shorter ones by equality.

    What more than `max_holders` earlier problems have in common belongs to their form ("Your code should satisfy this
    test"), and is counted neither for nor against a repetition.
    """

    name: ClassVar[str] = "ngram_dedup"
    ngram_words: int = 8
    max_share: float = 0.5
    """Share of a problem's n-grams that may stand in one earlier problem."""
    max_holders: int = 50
    """Problems that an n-gram may stand in before it says nothing."""

    def __post_init__(self) -> None:
        if self.ngram_words < 1:
            raise ConfigError("ngram_words", self.ngram_words, "must be at least 1")
        if self.max_holders < 1:
            raise ConfigError("max_holders", self.max_holders, "must be at least 1")
        if not 0 <= self.max_share < 1:
            raise ConfigError("max_share", self.max_share, "must be in [0, 1)")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        holders: dict[tuple[str, ...], list[int]] = {}
        for number, document in enumerate(documents):
            grams = self._grams(document.text)
            telling = [gram for gram in grams if len(holders.get(gram, ())) <= self.max_holders]
            shared = Counter(holder for gram in telling for holder in holders.get(gram, ()))
            if shared and shared.most_common(1)[0][1] > self.max_share * len(telling):
                task.drop(document, self.name, "repetition")
                continue
            for gram in telling:
                holders.setdefault(gram, []).append(number)
            yield document

    def _grams(self, text: str) -> set[tuple[str, ...]]:
        words = normalized_words(text)
        size = min(self.ngram_words, max(1, len(words)))
        return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}
