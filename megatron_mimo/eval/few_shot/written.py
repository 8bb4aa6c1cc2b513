"""Short written answers: exact match against a list, and DROP's F1 (Dua et al., 2019)."""

import re
import string
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, first, user

ARTICLES = re.compile(r"\b(a|an|the)\b")
MAX_ALIGNED = 6
"""Spans that are aligned in the best of all ways; more are aligned greedily."""


@dataclass
class Exact(EvalTask):
    """The answer's text, stripped, is the record's."""

    name: str
    fields: tuple[str, ...]
    files: tuple[str, ...] = ()

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        answer = str(first(record, *self.fields)).strip()
        question = str(first(record, "input", "question"))
        group = str(record.get("subject", ""))
        name = f"{group}/{number}" if group else str(number)
        return EvalProblem(id=name, messages=user(question), reference=answer, shown=answer, golden=answer, group=group)

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        answer = response.strip()
        right = answer == problem.reference
        return Grade(float(right), answer or None, "right" if right else "wrong" if answer else "no answer")


@dataclass
class Aliases(EvalTask):
    """Any of several spellings; case, punctuation and articles do not count."""

    name: str
    files: tuple[str, ...] = ()

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        known = self.answers(record)
        own = str(record.get("question_id", number))
        return EvalProblem(
            id=own,
            messages=user(str(record["question"])),
            reference=known,
            shown=" / ".join(known[:5]),
            golden=known[0],
        )

    @staticmethod
    def answers(record: dict[str, Any]) -> list[str]:
        """TriviaQA's aliases, or NaturalQuestions' list of answers."""
        answer = record["answer"]
        names = answer["aliases"] if isinstance(answer, dict) else answer
        return [str(name) for name in ([names] if isinstance(names, str) else names)]

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        answer = response.strip()
        right = normalized(answer) in {normalized(known) for known in problem.reference}
        return Grade(float(right), answer or None, "right" if right else "wrong" if answer else "no answer")


@dataclass
class Drop(EvalTask):
    """F1 of the best of the accepted answers, each a number, a date or spans."""

    name: str
    files: tuple[str, ...] = ()

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        accepted = self.answers(record)
        shown = " / ".join(", ".join(answer) for answer in accepted)
        own = str(record.get("query_id", number))
        question = f"{record['passage']} {record['question']}"
        return EvalProblem(
            id=own, messages=user(question), reference=accepted, shown=shown, golden=", ".join(accepted[0])
        )

    @staticmethod
    def answers(record: dict[str, Any]) -> list[tuple[str, ...]]:
        """The accepted answers; other annotators' ones stand in lists by kind."""
        found = [spans_of(record["answer"])]
        others = record.get("validated_answers") or {"number": []}
        if isinstance(others, list):
            found += [spans_of(one) for one in others]
        else:
            for place in range(len(others["number"])):
                found.append(spans_of({kind: others[kind][place] for kind in ("number", "date", "spans")}))
        return list(dict.fromkeys(answer for answer in found if answer[0].strip()))

    @staticmethod
    def shown_answer(record: dict[str, Any]) -> str:
        """The record's own answer, as an example gives it."""
        return ",".join(spans_of(record["answer"]))

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        answer = response.strip()
        score = max(f1(answer, accepted) for accepted in problem.reference) if answer else 0.0
        return Grade(score, answer or None, f"F1 {score:.2f}")


def spans_of(answer: dict[str, Any]) -> tuple[str, ...]:
    if str(answer.get("number") or ""):
        return (str(answer["number"]),)
    if len(spans := answer.get("spans") or ()):
        return tuple(map(str, spans))
    date = answer.get("date") or {}
    return (" ".join(str(date.get(part) or "") for part in ("day", "month", "year")).strip(),)


def f1(answer: str, accepted: tuple[str, ...]) -> float:
    """DROP's F1 of one predicted span, rounded to two decimals: spans are aligned one to one."""
    predicted, gold = [bag(answer)], [bag(span) for span in accepted]
    scores = [[overlap(one, other) for other in predicted] for one in gold]
    most = max(len(gold), len(predicted))
    places = range(most)
    padded = [[scores[i][j] if i < len(gold) and j < len(predicted) else 0.0 for j in places] for i in places]
    if most <= MAX_ALIGNED:
        best = max(sum(padded[i][order[i]] for i in places) for order in permutations(places))
    else:
        best = max(row[0] for row in padded)
    return round(best / most, 2)


def overlap(gold: set[str], predicted: set[str]) -> float:
    """F1 of two bags of words; 0 where the gold has numbers and the prediction none of them."""
    numbers = {word for word in gold if is_number(word)}
    if numbers and not numbers & predicted:
        return 0.0
    common = len(gold & predicted)
    precision, recall = common / len(predicted) if predicted else 1.0, common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def bag(text: str) -> set[str]:
    """Words in small letters without articles and punctuation, numbers by their value."""
    words = []
    for word in re.split(r"[ -]", text.lower()):
        plain = word if is_number(word) else "".join(sign for sign in word if sign not in string.punctuation)
        plain = str(float(plain)) if is_number(plain) else plain
        words += ARTICLES.sub(" ", plain).split()
    return set(words)


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def normalized(text: str) -> str:
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", plain).split())
