"""A task of lm-evaluation-harness on an engine of ours; skipped where the harness is not installed."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.data.endpoint import Completion, Message, RequestFailed, Sampling
from megatron_mimo.eval import harness

pytestmark = pytest.mark.slow


class Adder:
    """Adds, behind a thought, and writes on after the answer."""

    name = identity = "adder"

    def __init__(self, dies: bool = False) -> None:
        self.asked: list[list[Message]] = []
        self.dies = dies

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        if self.dies:
            raise RequestFailed("no answer from the endpoint", "down", final=False)
        self.asked.append(messages)
        first, second = messages[-1]["content"].removesuffix("=").split("+")
        right = int(first) + int(second) if int(first) % 2 else "no"
        return Completion(f"<think>Hm.\nYes.</think>{right}\nNext question", "stop", 3, 4)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None: ...


def write_task(folder: Path) -> TaskConfig:
    rows = [json.dumps({"q": f"{i}+{2 * i}=", "a": str(3 * i)}) for i in range(10)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "sums.yaml").write_text(
        f"task: our_sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
        'test_split: test\noutput_type: generate_until\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\n'
        'generation_kwargs: {until: ["\\n"]}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return TaskConfig(task="harness:our_sums", path=str(folder), repetitions=2, max_tokens=64)


def test_a_task_is_scored_stored_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    task = write_task(tmp_path)
    evaluation = EvaluateConfig(output=str(tmp_path / "out"), tasks=[task])
    with pytest.raises(UserError, match="run the same command again"):
        asyncio.run(harness.run_task(task, Adder(dies=True), evaluation))
    adder = Adder()
    results = asyncio.run(harness.run_task(task, adder, evaluation))
    assert (results["score"], results["problems"], results["answers"], results["truncated"]) == (0.5, 10, 20, 0.0)
    assert results["scores"]["our_sums/3"] == [1.0, 1.0] and results["scores"]["our_sums/4"] == [0.0, 0.0]
    assert len(adder.asked) == 20 and [m["role"] for m in adder.asked[0]] == ["user"]
    again = asyncio.run(harness.run_task(task, Adder(dies=True), evaluation))
    assert again["scores"] == results["scores"]


def test_a_missing_harness_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    harness.check([])
    with pytest.raises(UserError, match="pip install"):
        harness.check([TaskConfig(task="harness:drop")])


def test_stop_strings_cut_the_answer_and_not_the_thought() -> None:
    assert harness.cut("<think>a. b</think>So 5. Then", ["."]) == "So 5"
    assert harness.cut("five", []) == "five"
    # The stop strings of DROP and BBH as they are meant.
    assert harness.cut("10.5. Next", ["."]) == "10.5" and harness.cut("10.", ["."]) == "10"
    assert harness.cut("The Queen of Q4\nQ: next", ["Q"]) == "The Queen of Q4\n"
