"""RULER as a benchmark: problems of one kind at one length, and the share of expected strings in an answer."""

import random
from dataclasses import dataclass, field
from functools import cached_property

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.eval.protocol import EvalProblem, Grade, Graders, user
from megatron_mimo.eval.records import locate
from megatron_mimo.eval.ruler.documents import Library, documents, read_library
from megatron_mimo.eval.ruler.form import KINDS, WORDINGS, CountTokens, Draft, TooSmall
from megatron_mimo.eval.ruler.haystack import Haystack, find_haystack
from megatron_mimo.eval.ruler.needles import needles
from megatron_mimo.eval.ruler.variables import variables
from megatron_mimo.eval.ruler.word_counts import common_words, frequent_words
from megatron_mimo.reward.final_answer import final_part

DEPTH = "depth"
"""Scores by needle depth are details of this name."""


@dataclass
class Ruler:
    """One kind at one length: prompt, `thinking_tokens` and the answer of the paper's length are `context_tokens`.

    With `is_completion` the prompt ends in the beginning of the answer, which a base model continues.
    """

    kind: str
    context_tokens: int
    num_problems: int
    seed: int = 0
    thinking_tokens: int = 0
    is_completion: bool = False
    data: str = ""
    path: str | None = None
    """File or folder of the essays, or of the questions."""
    notes: list[str] = field(default_factory=list)
    needs = frozenset()
    version = "2"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError("ruler", self.kind, f"is one of {', '.join(KINDS)}")

    @property
    def name(self) -> str:
        return f"{'base_' if self.is_completion else ''}ruler_{self.kind}"

    @property
    def prompt_tokens(self) -> int:
        """Longest prompt, chat template or answer prefix included."""
        return self.context_tokens - self.thinking_tokens - answer_tokens(self.kind)

    def generate(self, count: CountTokens) -> list[EvalProblem]:
        """The problems; `count` gives the tokens of a whole prompt. Raises UserError where nothing fits."""
        return [self._problem(index, count) for index in range(self.num_problems)]

    def _problem(self, index: int, count: CountTokens) -> EvalProblem:
        draft = self._draft(index, random.Random(f"{self.seed}/{self.kind}/{self.context_tokens}/{index}"))
        end = draft.prefix if self.is_completion else ""
        try:
            text = draft.fit(self.prompt_tokens, lambda prompt: count(prompt + end))
        except TooSmall as error:
            raise UserError(
                f"{self.name}: {error}: raise context_tokens ({self.context_tokens}), or lower thinking_tokens"
            ) from error
        return EvalProblem(
            id=str(index),
            messages=[] if self.is_completion else user(text),
            prompt=text + end if self.is_completion else None,
            reference={"expected": draft.expected, "depths": self._depths(text, draft)},
            shown=", ".join(draft.expected),
            golden=", ".join(draft.expected),
        )

    def _draft(self, index: int, rng: random.Random) -> Draft:
        kind = KINDS[self.kind]
        if kind.family == "needles":
            return needles(kind, self._haystack, rng)
        if kind.family == "variables":
            return variables(rng)
        if kind.family == "common_words":
            return common_words(self._haystack, rng, self.context_tokens)
        return frequent_words(rng) if kind.family == "frequent_words" else documents(self._library, index, rng)

    @cached_property
    def _haystack(self) -> Haystack:
        haystack = find_haystack(self.data, self.path)
        if KINDS[self.kind].haystack == "essay":
            self.notes.append(f"needles are hidden in {haystack.name}")
        return haystack

    @cached_property
    def _library(self) -> Library:
        library = read_library(locate(self.data, self.path, KINDS[self.kind].files, self.name, "val"))
        if self.num_problems > len(library.questions):
            self.notes.append(f"only {len(library.questions)} questions: some are asked again among other documents")
        return library

    def _depths(self, text: str, draft: Draft) -> tuple[float, ...]:
        """Where each needle stands, as a share of the prompt's characters."""
        is_needles = KINDS[self.kind].family == "needles"
        return tuple(text.find(value) / len(text) for value in draft.expected) if is_needles else ()

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        """Share of the expected strings in the answer after the reasoning, letters' case ignored; any one of a
        question's answers is enough."""
        answer, expected = final_part(response).lower(), problem.reference["expected"]
        hits = [string.lower() in answer for string in expected]
        found = [string for string, hit in zip(expected, hits, strict=True) if hit]
        is_any = KINDS[self.kind].family == "documents"
        score = float(any(hits)) if is_any else sum(hits) / len(hits)
        by_depth: dict[str, list[bool]] = {}
        for depth, hit in zip(problem.reference["depths"], hits, strict=False):
            by_depth.setdefault(f"{DEPTH} {10 * int(10 * depth):2} %", []).append(hit)
        details = {name: sum(part) / len(part) for name, part in by_depth.items()}
        return Grade(score, ", ".join(found) or None, f"{len(found)} of {len(expected)}", details)


def answer_tokens(kind: str) -> int:
    """Room for an answer, as NVIDIA's generator leaves it."""
    family = KINDS[kind].family
    return WORDINGS["needle" if family == "needles" else family].answer_tokens
