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
    """Drops a problem most of whose word n-grams were seen in earlier ones of the task; shorter ones by equality."""

    name: ClassVar[str] = "ngram_dedup"
    ngram_words: int = 8
    max_share: float = 0.5
    """Share of a problem's n-grams that may have been seen before."""

    def __post_init__(self) -> None:
        if self.ngram_words < 1:
            raise ConfigError("ngram_words", self.ngram_words, "must be at least 1")
        if not 0 <= self.max_share < 1:
            raise ConfigError("max_share", self.max_share, "must be in [0, 1)")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        seen: set[tuple[str, ...]] = set()
        for document in documents:
            words = normalized_words(document.text)
            size = min(self.ngram_words, max(1, len(words)))
            grams = {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}
            if len(grams & seen) > self.max_share * len(grams):
                task.drop(document, self.name, "repetition")
            else:
                seen |= grams
                yield document
