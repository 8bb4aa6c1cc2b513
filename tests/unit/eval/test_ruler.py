"""RULER's problems: their length, their answers in the text, their score."""

import asyncio
import re
from collections import Counter

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.eval.protocol import Graders
from megatron_mimo.eval.ruler import KINDS, MARGIN_TOKENS, Ruler


def count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [512, 4096])
def test_prompts_fill_the_context_and_hold_their_answers(kind: str, length: int) -> None:
    task = Ruler(kind, length, 3)
    problems = task.generate(count)
    assert [problem.messages for problem in problems] == [problem.messages for problem in task.generate(count)]
    assert len({problem.messages[0]["content"] for problem in problems}) == 3
    for problem in problems:
        text = problem.messages[0]["content"]
        assert 0.85 * (length - task.answer_tokens) - 50 <= count(text) <= length - task.answer_tokens - MARGIN_TOKENS
        assert all(expected in text for expected in problem.reference)


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_share_found(kind: str) -> None:
    task = Ruler(kind, 1024, 1)
    (problem,) = task.generate(count)

    def score(response: str) -> float:
        return asyncio.run(task.grade(problem, response, Graders())).score

    assert score(problem.golden or "") == 1.0
    assert score("nothing") == 0.0
    assert score(f"<think>{problem.golden}") == 0.0
    assert score(problem.reference[0]) == pytest.approx(1 / len(problem.reference))


def test_the_expected_words_are_the_most_frequent() -> None:
    for kind, first in (("cwe", 10), ("fwe", 3)):
        for problem in Ruler(kind, 4096, 5).generate(count):
            body = problem.messages[0]["content"].split("\n\n")[1]
            words = Counter(re.findall(r"\b[a-z]+\b", body)).most_common(first + 1)
            assert {word for word, _ in words[:first]} == set(problem.reference)
            assert words[first - 1][1] > words[first][1]


def test_variables_can_be_followed() -> None:
    for problem in Ruler("vt", 2048, 5).generate(count):
        text = problem.messages[0]["content"]
        value = re.search(r"value (\d+)", text)
        assert value is not None
        values: dict[str, str] = {}
        for name, given in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)\.", text):
            values[name] = values.get(given, given)
        assert sorted(name for name, found in values.items() if found == value[1]) == sorted(problem.reference)


def test_the_needles_of_multiquery_belong_to_their_keys() -> None:
    for problem in Ruler("niah_multiquery", 1024, 5).generate(count):
        text = problem.messages[0]["content"]
        pairs = dict(re.findall(r"numbers for (\S+) is: (\d+)\.", text))
        asked = re.search(r"special numbers for (.*) mentioned", text)
        assert asked is not None
        assert [pairs[key] for key in asked[1].split(", ")] == problem.reference


def test_a_context_without_room_is_told() -> None:
    with pytest.raises(UserError, match="context_tokens"):
        Ruler("niah_single", 160, 1).generate(count)
