"""A task of lm-evaluation-harness on an engine of ours; skipped where the harness is not installed."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import pytest

from megatron_mimo.clients.endpoint import Completion, Message, RequestFailed, Sampling
from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.eval import harness
from megatron_mimo.eval.compare import compare_results
from megatron_mimo.eval.engines import Pairs
from megatron_mimo.eval.samples_report import index_page
from megatron_mimo.eval.session import evaluate
from megatron_mimo.eval.summary import table

pytestmark = pytest.mark.slow


class Adder:
    """Adds, behind a thought, and writes on after the answer."""

    name = identity = "adder"

    def __init__(self, dies: bool = False) -> None:
        self.asked: list[list[Message]] = []
        self.plain: list[tuple[str, tuple[str, ...]]] = []
        self.dies = dies

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        if self.dies:
            raise RequestFailed("no answer from the endpoint", "down", final=False)
        self.asked.append(messages)
        first, second = messages[-1]["content"].removesuffix("=").split("+")
        right = int(first) + int(second) if int(first) % 2 else "no"
        return Completion(f"<think>Hm.\nYes.</think>{right}\nNext question", "stop", 3, 4)

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        self.plain.append((prompt, sampling.stop))
        return Completion("2", "stop", 3, 4)

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        """The sum that is right is the likeliest."""
        return [-float(abs(sum(map(int, p.partition("=")[0].split("+"))) - int(c))) for p, c in pairs]

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
    return TaskConfig(task="harness:our_sums", path=str(folder), repetitions=2, max_new_tokens=64)


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


def test_report_table_and_comparison_of_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two filters, of which one gives the score: 10 problems with 2 repetitions are 20 answers."""
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    task = write_task(tmp_path)
    with (tmp_path / "sums.yaml").open("a") as file:
        file.write(
            "filter_list:\n"
            '  - {name: strict, filter: [{function: regex, regex_pattern: "never"}, {function: take_first}]}\n'
            '  - {name: any, filter: [{function: regex, regex_pattern: "(.*)"}, {function: take_first}]}\n'
        )
    config = EvaluateConfig(output=str(tmp_path / "out"), tasks=[task])
    results, runs = asyncio.run(evaluate(config, Adder()))
    entry = results["tasks"][task.title]
    assert (entry["answers"], entry["problems"], entry["score"], list(entry["pass_at_k"])) == (20, 10, 0.0, ["1", "2"])
    assert entry["details"] == {"filter strict": 0.0, "filter any": 0.5} and entry["in_format"] == 1.0
    assert task.title in table(results) and "filter any: 50.0" in table(results)
    assert task.title in index_page(results, {}) and runs == []
    (row,) = compare_results(results, results)
    assert row["difference"] == 0.0


def test_a_base_model_completes_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    written = write_task(tmp_path)
    (tmp_path / "compared.yaml").write_text(
        "task: our_choices\noutput_type: multiple_choice\ntest_split: test\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_choice: "{{[\'1\', a | string]}}"\n'
        "doc_to_target: 1\nmetric_list: [{metric: acc}]\n"
    )
    compared = TaskConfig(task="harness:our_choices", path=str(tmp_path), max_new_tokens=8)
    evaluation = EvaluateConfig(output=str(tmp_path / "out"), tasks=[written, compared])
    evaluation.generation.template = "plain"
    adder = Adder()
    asyncio.run(harness.run_task(written, adder, evaluation))
    assert adder.plain[1] == ("1+2=", ("\n",))
    assert asyncio.run(harness.run_task(compared, adder, evaluation))["score"] == 1.0
    evaluation.generation.template = "chat"
    with pytest.raises(UserError, match="template=plain"):
        asyncio.run(harness.run_task(compared, adder, evaluation))


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
