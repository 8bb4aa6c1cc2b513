"""Graded arithmetic and recall: every written step is true, and what is held out is in no training document."""

import random
import re
from collections import Counter

import pytest

from megatron_mimo.data.nano.corpus_graded import LEVELS, PER_LEVEL, OperationChain, graded_documents
from megatron_mimo.data.nano.corpus_recall import QUESTIONS, recall_documents

STEP = re.compile(r"(\S+)=(\d+)(?= |$)")


@pytest.fixture(scope="module")
def graded() -> list:
    return list(graded_documents())


def test_every_line_of_a_solution_is_true(graded: list) -> None:
    """By Python's own arithmetic: the columns, the result of each line, and the answer in the box."""
    for document in random.Random(0).sample(graded, 1500):
        question, *lines, answer = document.text.split("\n")
        expression = question.split(": ")[1].removesuffix("=?")
        assert answer == f"Answer: \\boxed{{{eval(expression)}}}", document.text
        for line in lines:
            left, columns = line.split(": ")
            result = int(columns.rsplit(" =", 1)[1])
            assert result == eval(left)
            found = STEP.findall(columns.rsplit(" =", 1)[0])
            assert len(found) >= len(str(eval(left))) - 1
            assert all(eval(re.sub(r"\b0+(?=\d)", "", step)) == int(value) for step, value in found), line


def test_levels_are_complete_and_split_by_their_numbers(graded: list) -> None:
    levels = Counter(document.text[: len("Level 1")] for document in graded)
    assert levels == {f"Level {level}": PER_LEVEL for level in LEVELS}
    held_out = {document.text.split("\n")[0] for document in graded if document.split == "valid"}
    trained = {document.text.split("\n")[0] for document in graded if document.split == "train"}
    assert len(held_out) > 400 and not held_out & trained
    sums = OperationChain(1, 47, (("+", 38),)), OperationChain(1, 38, (("+", 47),)), OperationChain(1, 47, (("-", 38),))
    assert len({chain.is_held_out for chain in sums}) == 1


def test_recall_asks_for_what_stands_in_front() -> None:
    for document in list(recall_documents())[:200]:
        facts, *questions = document.text.split("\n")
        codes = dict(re.findall(r"The code of (\w+) is (\d{4})\.", facts))
        assert len(questions) == QUESTIONS and 20 <= len(codes) <= 40
        for question in questions:
            asked = re.fullmatch(r"Which code has (\w+)\? \\boxed\{(\d{4})\}", question)
            assert asked and codes[asked[1]] == asked[2]
