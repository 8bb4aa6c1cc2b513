"""RULER's problems: their length, their answers in the text, their score."""

import asyncio
import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.protocol import EvalProblem, Graders
from megatron_mimo.eval.registry import find_task
from megatron_mimo.eval.ruler.fit import longest
from megatron_mimo.eval.ruler.form import KINDS, TooSmall
from megatron_mimo.eval.ruler.task import Ruler, answer_tokens

WORDS = re.compile(r"\w+|[^\w\s]")


def count(text: str) -> int:
    """A tokenizer's stand-in: words in pieces of four letters, and signs."""
    return sum(-(-len(word) // 4) for word in WORDS.findall(text))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Essays of made-up words, and questions in the forms of SQuAD and HotpotQA."""
    folder, rng = tmp_path_factory.mktemp("ruler"), random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 9))) for _ in range(1500)]
    sentences = [" ".join(rng.choices(words, k=rng.randrange(5, 20))).capitalize() + "." for _ in range(3000)]
    (folder / "ruler_essays.txt").write_text("\n".join(sentences))

    def passage() -> str:
        return " ".join(rng.choices(sentences, k=rng.randrange(1, 8)))

    articles = [
        {"title": f"t{i}", "paragraphs": [
            {"context": f"{passage()} S{i}-{j}x.", "qas": [
                {"question": f"Which of {i}, {j}?", "answers": [{"text": f"S{i}-{j}x"}, {"text": f"S{i}"}]},
                {"question": "none", "answers": [], "is_impossible": True}]}
            for j in range(4)]}
        for i in range(30)]  # fmt: skip
    (folder / "squad.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    rows = [
        {"question": f"How of {i}?", "answer": f"H{i}y",
         "context": [[f"title {i} {j}", [f"{sentences[10 * i + j]} ", f"H{i}y"]] for j in range(10)]}
        for i in range(20)]  # fmt: skip
    (folder / "hotpotqa.json").write_text(json.dumps(rows))
    return folder


def problems(kind: str, context_tokens: int, num_problems: int, data: Path, **settings: object) -> list[EvalProblem]:
    task = Ruler(kind, context_tokens, num_problems, data=str(data), **settings)  # type: ignore[arg-type]
    return task.generate(count)


def asked(problem: EvalProblem) -> str:
    return problem.prompt or problem.messages[0]["content"]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_fill_the_context_and_hold_their_answers(kind: str, data: Path) -> None:
    """Within 1 % of 4,096 tokens, answer's room and prefix included, each prompt another one."""
    length = 4096
    made = problems(kind, length, 3, data, is_completion=True)
    assert [asked(one) for one in made] == [asked(one) for one in problems(kind, length, 3, data, is_completion=True)]
    assert len({asked(one) for one in made}) == 3
    for problem in made:
        tokens = count(asked(problem)) + answer_tokens(kind)
        assert 0.99 * length <= tokens <= length, tokens
        expected = problem.reference["expected"]
        assert (any if kind.startswith("qa") else all)(value in asked(problem) for value in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_share_found(kind: str, data: Path) -> None:
    task = Ruler(kind, 2048, 1, data=str(data))
    (problem,) = task.generate(count)
    expected = problem.reference["expected"]

    def score(response: str) -> float:
        return asyncio.run(task.grade(problem, response, Graders())).score

    assert score(problem.golden or "") == 1.0
    assert score("nothing") == 0.0
    assert score(f"<think>{problem.golden}") == 0.0
    assert score(expected[0]) == pytest.approx(1.0 if kind.startswith("qa") else 1 / len(expected))
    grade = asyncio.run(task.grade(problem, expected[0], Graders()))
    assert bool(grade.details) == kind.startswith("niah")


def test_chats_are_asked_and_base_models_continue_an_answer(data: Path) -> None:
    (chat,) = problems("niah_single_3", 1024, 1, data)
    (base,) = problems("niah_single_3", 1024, 1, data, is_completion=True)
    key = re.search(r"special magic uuid for (\S+) mentioned", asked(chat))
    assert key and asked(base).endswith(f" The special magic uuid for {key[1]} mentioned in the provided text is")
    assert asked(chat).endswith("mentioned in the provided text?") and base.messages == []
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", chat.shown)


def test_the_prompt_leaves_room_for_thinking(data: Path) -> None:
    (problem,) = problems("niah_single_1", 4096, 1, data, thinking_tokens=2048)
    assert 0.98 * 1920 <= count(asked(problem)) <= 1920
    task = find_task(TaskConfig(task="ruler_vt", thinking_tokens=4090))
    assert isinstance(task, Ruler)
    with pytest.raises(UserError, match="lower thinking_tokens"):
        task.generate(count)


def test_the_expected_words_are_the_most_frequent(data: Path) -> None:
    for kind, first in (("cwe", 10), ("fwe", 3)):
        for problem in problems(kind, 4096, 3, data):
            question = asked(problem).rpartition("Below is" if kind == "cwe" else "Read the")[2]
            body = question.partition("Question:")[0].split("." if kind == "cwe" else "words. ", 2)[-1]
            words = Counter(re.findall(r"\b[a-z]+\b", body)).most_common(first + 1)
            assert {word for word, _ in words[:first]} == set(problem.reference["expected"])
            assert words[first - 1][1] > words[first][1]


def test_common_words_are_worked_through_once_before(data: Path) -> None:
    (problem,) = problems("cwe", 4096, 1, data)
    example, answer = asked(problem).split("most often in the list are:")[0], asked(problem).split("list are:")[1]
    listed = Counter(re.findall(r"\d+\. ([a-z]+)", example))
    common = {word for word, times in listed.items() if times == 10}
    assert set(re.findall(r"\d+\. ([a-z]+)", answer.partition("\n")[0])) == common and len(common) == 10


def test_variables_can_be_followed(data: Path) -> None:
    for problem in problems("vt", 2048, 3, data):
        example, text = asked(problem).split("\n\nMemorize")
        for part, names in ((text, problem.reference["expected"]), (example, example.rpartition("  ")[2].split())):
            value = re.search(r"value (\d+)", part)
            assert value is not None
            values: dict[str, str] = {}
            for name, given in re.findall(r"VAR ([A-Z]{3,5}) = (?:VAR )?(\w+)", part):
                values[name] = values.get(given, given)
            assert sorted(name for name, found in values.items() if found == value[1]) == sorted(names)


def test_the_needles_of_multiquery_belong_to_their_keys(data: Path) -> None:
    for problem in problems("niah_multiquery", 1024, 5, data):
        pairs = dict(re.findall(r"magic numbers for (\S+) is: (\d+)\.", asked(problem)))
        query = re.search(r"magic numbers for (.*) mentioned", asked(problem))
        assert query is not None
        keys = query[1].replace(", and ", ", ").split(", ")
        assert [pairs[key] for key in keys] == list(problem.reference["expected"])


def test_a_question_stands_among_other_documents(data: Path) -> None:
    """Its own documents once, those of its article first, none twice."""
    for kind, own in (("qa_1", "S0-1x"), ("qa_2", "title 1 ")):
        text = asked(problems(kind, 2048, 2, data)[1])
        documents = (
            text.split("following are given documents.\n\n")[1].rpartition("\n\nAnswer")[0].split("\n\nDocument")
        )
        bodies = [document.partition("\n")[2] for document in documents]
        assert len(set(bodies)) == len(bodies) and sum(own in body for body in bodies) == (1 if kind == "qa_1" else 10)
        assert kind == "qa_2" or all(sum(f"S0-{j}x" in body for body in bodies) == 1 for j in range(4))


def test_without_essays_python_s_documentation_is_the_haystack() -> None:
    task = Ruler("niah_single_2", 2048, 1)
    (problem,) = task.generate(count)
    assert task.notes == ["needles are hidden in the documentation of Python"] and "expression" in asked(problem)


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="context_tokens"):
        Ruler("niah_single_1", 160, 1).generate(count)
    (tmp_path / "few.txt").write_text("only some words")
    with pytest.raises(UserError, match="different words"):
        Ruler("cwe", 4096, 1, path=str(tmp_path / "few.txt")).generate(count)
    (tmp_path / "squad.json").write_text('[{"question": "q", "context": 7}]')
    with pytest.raises(UserError, match="record 1 is neither SQuAD's"):
        Ruler("qa_1", 4096, 1, data=str(tmp_path)).generate(count)
    with pytest.raises(UserError, match="task ruler_qa_2: no hotpotqa"):
        Ruler("qa_2", 4096, 1, data=str(tmp_path)).generate(count)


def test_longest_text_is_found_in_few_tokenizations() -> None:
    """Against a search of every size, for texts that grow unevenly."""
    rng = random.Random(0)
    for _ in range(20):
        lengths = [rng.randrange(5, 30) for _ in range(5000)]
        sums = [0, *itertools.accumulate(lengths[:-1])]
        asked_sizes: list[int] = []

        def build(size: int, asked: list[int] = asked_sizes) -> str:
            asked.append(size)
            return str(size)

        budget = rng.randrange(200, 40_000)
        size = int(longest(build, 3, budget, lambda text, sums=sums: sums[min(int(text), 4999)]))
        best = max(size for size, total in enumerate(sums) if total <= budget)
        assert sums[size] <= budget and (size == best or budget - sums[size] <= budget // 500)
        assert len(asked_sizes) <= 12
    with pytest.raises(TooSmall):
        longest(str, 3, 2, int)
