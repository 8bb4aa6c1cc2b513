"""How a score moves with the way that a model is asked, on a model whose answers depend on just that."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest

from megatron_mimo.clients.endpoint import Completion, Message, Sampling
from megatron_mimo.config import ConfigError
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig, TaskConfig
from megatron_mimo.eval import explain as explain_module
from megatron_mimo.eval.engines import Pairs
from megatron_mimo.eval.explain import compared, explain, explained_page, text, variants
from megatron_mimo.eval.protocol import Graders


class Particular:
    """Right as a base model, where it is stopped; in a chat only without a system message; 50 tokens an answer."""

    name = identity = "particular"
    has_template = True

    def __init__(self) -> None:
        self.config, self.asked = EvalGenerationConfig(), 0
        self.shared = self

    def asked_as(self, config: EvalGenerationConfig) -> "Particular":
        other = Particular()
        other.config, other.shared = config, self.shared
        return other

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        right = self.config.template == "chat" and self.config.system_prompt is None
        return self.said(messages[-1]["content"], right, sampling)

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        return self.said(prompt.rpartition("Problem:")[2], "\nProblem:" in sampling.stop, sampling)

    def said(self, question: str, right: bool, sampling: Sampling) -> Completion:
        self.shared.asked += 1
        number = question.split("?")[0].split()[-1]
        is_cut = sampling.max_new_tokens < 50
        answer = "so far" if is_cut else f"\\boxed{{{number}}}" + ("" if right else "\n\nProblem: 7? \\boxed{-1}")
        return Completion(answer, "length" if is_cut else "stop", 10, min(50, sampling.max_new_tokens))

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        raise AssertionError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None: ...


class SameText:
    """A stand-in for Math-Verify, which takes seconds to start."""

    async def reward(self, response: str, answer: str) -> float:
        return float(response == f"\\boxed{{{answer}}}")


@pytest.fixture(autouse=True)
def quick_graders(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.asynccontextmanager
    async def made(*_: Any) -> AsyncIterator[Graders]:
        yield Graders(math=SameText())

    monkeypatch.setattr(explain_module, "make_graders", made)


def test_every_row_shows_what_its_setting_does(tmp_path: Path) -> None:
    rows = [{"id": i, "problem": f"What is {i}?", "answer": str(i)} for i in range(8)]
    (tmp_path / "aime24.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = EvaluateConfig(data=str(tmp_path), output=str(tmp_path / "out"))
    asked = TaskConfig(task="aime24", repetitions=2, max_new_tokens=400, limit=6)
    engine = Particular()
    explained = asyncio.run(explain(config, asked, engine, lambda _: None))
    found = {row["asked"]: row for row in compared(explained)}
    scores = {name: row["score"] for name, row in found.items()}
    assert scores == {
        "as a base model": 100.0,
        "without stop strings": 0.0,
        "4 worked examples": 100.0,
        "chat template, empty system message": 0.0,
        "chat template, its own system message": 100.0,
        "chat template, 'You are a helpful assistant.'": 0.0,
        "the chat's question as plain text": 0.0,
        "100 tokens": 100.0,
        "25 tokens": 0.0,
        "greedy": 100.0,
    }
    assert found["without stop strings"]["difference"] == -100.0 and found["without stop strings"]["p_value"] < 0.05
    assert (found["25 tokens"]["truncated"], found["25 tokens"]["no answer"]) == (100.0, 100.0)
    assert engine.asked == 6 * (2 * 9 + 1)
    again = Particular()
    assert asyncio.run(explain(config, asked, again, lambda _: None)) == explained and again.asked == 0
    assert "-100.0" in text(explained) and "no boxed answer" in explained_page(explained)


def test_a_model_without_a_template_is_not_asked_as_a_chat(tmp_path: Path) -> None:
    rows = [{"id": i, "problem": f"What is {i}?", "answer": str(i)} for i in range(8)]
    (tmp_path / "aime24.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = EvaluateConfig(data=str(tmp_path), output=str(tmp_path / "out"))
    engine, said = Particular(), []
    engine.has_template = False
    explained = asyncio.run(explain(config, TaskConfig(task="aime24", max_new_tokens=400), engine, said.append))
    assert not any("chat template" in row["name"] for row in explained["rows"]) and len(explained["rows"]) == 7
    assert "no chat template" in said[0]


def test_tasks_that_base_models_are_not_asked_are_refused() -> None:
    with pytest.raises(ConfigError, match="aime24"):
        variants(TaskConfig(task="mmlu"))
