"""Questions whose documents stand among those of other questions: SQuAD (one document) and HotpotQA (ten).

Files as published: `dev-v2.0.json` of SQuAD, `hotpot_dev_distractor_v1.json` of HotpotQA, or the hub's records of both.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.eval.protocol import first
from megatron_mimo.eval.records import Source, read_records
from megatron_mimo.eval.ruler.form import WORDINGS, CountTokens, Draft, TooSmall

PATIENCE = 200
"""Documents that are tried after the last one that fitted."""
MARGIN_TOKENS = 4
"""A document's heading counts differently after another text."""


@dataclass(frozen=True)
class DocumentQuestion:
    """`own` are the documents that it is about, `related` those of the same article, as places in `Library.texts`."""

    text: str
    answers: tuple[str, ...]
    own: tuple[int, ...]
    related: tuple[int, ...] = ()


@dataclass
class Library:
    """All questions and documents of a data set."""

    questions: list[DocumentQuestion]
    texts: list[str]
    _tokens: dict[int, int] = field(default_factory=dict)

    def tokens(self, place: int, count: CountTokens) -> int:
        """Of a document with its heading; counted once."""
        if place not in self._tokens:
            self._tokens[place] = count(heading(0, self.texts[place]) + "\n\n")
        return self._tokens[place]


def read_library(sources: Sequence[Source]) -> Library:
    """Questions with an answer, and all documents. Raises UserError where the records are of neither data set."""
    places: dict[str, int] = {}
    questions: list[DocumentQuestion] = []
    for source in sources:
        for number, record in enumerate(read_records(source.path), start=1):
            try:
                questions += questions_of(record, places)
            except (KeyError, TypeError, ValueError) as error:
                fault = f"{type(error).__name__}: {error}"
                raise UserError(
                    f"{source.path}, record {number} is neither SQuAD's nor HotpotQA's ({fault})"
                ) from error
    if not questions:
        raise UserError(f"{sources[0].path} holds no question with an answer")
    return Library(questions, list(places))


def questions_of(record: dict[str, Any], places: dict[str, int]) -> Iterator[DocumentQuestion]:
    """Of one record; its documents are added to `places`."""

    def place(text: str) -> int:
        return places.setdefault(text, len(places))

    if "paragraphs" in record:
        article = [place(paragraph["context"]) for paragraph in record["paragraphs"]]
        for own, paragraph in zip(article, record["paragraphs"], strict=True):
            related = tuple(dict.fromkeys(other for other in article if other != own))
            for asked in paragraph["qas"]:
                if answers := tuple(answer["text"] for answer in asked["answers"]):
                    yield DocumentQuestion(asked["question"], answers, (own,), related)
    elif isinstance(record["context"], str):
        own = place(record["context"])
        if answers := tuple(record["answers"]["text"]):
            yield DocumentQuestion(record["question"], answers, (own,))
    else:
        own = tuple(place(f"{title}\n{''.join(lines)}") for title, lines in titled(record["context"]))
        yield DocumentQuestion(record["question"], (str(first(record, "answer")),), own)


def titled(context: Any) -> list[tuple[str, list[str]]]:
    """(title, sentences) of HotpotQA's own file, or of the hub's columns."""
    if isinstance(context, dict):
        return list(zip(context["title"], context["sentences"], strict=True))
    return [(title, lines) for title, lines in context]


def heading(number: int, text: str) -> str:
    return f"Document {number}:\n{text}"


def documents(library: Library, index: int, rng: random.Random) -> Draft:
    """Question `index`, from the start again where there are fewer."""
    question = library.questions[index % len(library.questions)]
    fit = partial(fitted, library, question, rng.getrandbits(64))
    return Draft(fit, WORDINGS["documents"].prefix, question.answers)


def fitted(library: Library, question: DocumentQuestion, seed: int, budget_tokens: int, count: CountTokens) -> str:
    """Its documents, then those of the article, then others, as long as they fit, all in random order."""
    chosen = list(dict.fromkeys(question.own))

    def length() -> int:
        return count(text_of(library, question, chosen, seed))

    if (tokens := length()) > budget_tokens:
        raise TooSmall(f"question and documents have {tokens} tokens, {budget_tokens} are free")
    pool, is_full = others(library, question, seed), False
    while pool and not is_full:  # where all documents fit they come again, as in NVIDIA's generator
        is_full = fill(library, pool, chosen, budget_tokens, count, length)
    while length() > budget_tokens:
        chosen.pop()
    return text_of(library, question, chosen, seed)


def fill(
    library: Library, pool: Sequence[int], chosen: list[int], budget_tokens: int, count: CountTokens,
    length: Callable[[], int],
) -> bool:  # fmt: skip
    """Add documents of the pool that fit, each once, to `chosen`; returns whether one did not fit."""
    tokens, misfits, is_full = length(), 0, False
    for place in pool:
        added = library.tokens(place, count) + MARGIN_TOKENS
        if tokens + added <= budget_tokens:
            chosen.append(place)
            tokens, misfits = tokens + added, 0
            continue
        if misfits == 0:  # the margins add up: the true length makes room for more
            tokens = length()
        misfits, is_full = misfits + 1, True
        if misfits > PATIENCE:
            break
    return is_full


def others(library: Library, question: DocumentQuestion, seed: int) -> list[int]:
    """Places of other documents: those of the same article first."""
    rng, own = random.Random(seed), set(question.own)
    related = list(question.related)
    rng.shuffle(related)
    rest = sorted(set(range(len(library.texts))) - own - set(related))
    rng.shuffle(rest)
    return [*related, *rest]


def text_of(library: Library, question: DocumentQuestion, chosen: Sequence[int], seed: int) -> str:
    order = list(chosen)
    random.Random(seed).shuffle(order)
    context = "\n\n".join(heading(number, library.texts[place]) for number, place in enumerate(order, start=1))
    return WORDINGS["documents"].prompt.format(context=context, query=question.text)
