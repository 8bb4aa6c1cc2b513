"""Prompts and grades of base models' tasks, on small files."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.engines import encode_pair
from megatron_mimo.eval.few_shot.task import FewShot
from megatron_mimo.eval.presets import base
from megatron_mimo.eval.protocol import EvalProblem, Grade, Graders
from megatron_mimo.eval.protocol_table import rows, text
from megatron_mimo.eval.registry import find_task, forms


def load(name: str, folder: Path, **settings: Any) -> tuple[FewShot, list[EvalProblem]]:
    task = find_task(TaskConfig(task=name, **settings))
    assert isinstance(task, FewShot)
    return task, task.load(*task.find(str(folder), None))


def grade(task: FewShot, problem: EvalProblem, response: str) -> Grade:
    return asyncio.run(task.grade(problem, response, Graders()))


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_rows_are_those_of_table_1() -> None:
    """Shots as the report's table states them."""
    shots = {
        "BBH": 3, "GPQA-Diamond": 5, "SuperGPQA": 5, "DROP": 3, "MMLU": 5, "MMLU-Redux": 5, "MMLU-Pro": 5,
        "ARC-Easy": 25, "ARC-Challenge": 25, "HellaSwag": 10, "PIQA": 0, "WinoGrande": 5, "RACE-High": 5, "TriviaQA": 5,
        "NaturalQuestions": 5, "AGIEval": 0, "AIME 2024": 0, "AIME 2025": 0, "GSM8K": 8, "MATH": 4,
        "LiveCodeBench v5": 0, "HumanEval": 1, "HumanEval+": 1, "MBPP": 3, "MBPP+": 3, "CRUXEval-I": 2,
        "CRUXEval-O": 2, "C-Eval": 5, "CMMLU": 5,
    }  # fmt: skip
    stated = [form for form in forms().values() if form.row]
    assert {form.row: form.num_shots for form in stated} == shots and len(shots) == 29
    assert {config.task for config in base()} == {form.name for form in stated}
    assert len(rows()) == 29 + 10 + 13 and "BBH" in text()


def test_examples_of_a_subject_stand_first(tmp_path: Path) -> None:
    for split, count in (("dev", 3), ("test", 1)):
        for subject in ("law", "art"):
            lines = [f"{subject} {split} {i}?,w,x,y,z,{'ABC'[i % 3]}" for i in range(count)]
            path = tmp_path / "mmlu" / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
    task, problems = load("base_mmlu", tmp_path, num_shots=2, answer_prefix=" (")
    assert problems[1].prompt == (
        "The following are multiple choice questions (with answers) about law.\n\n"
        "law dev 0?\nA. w\nB. x\nC. y\nD. z\nAnswer: A\n\nlaw dev 1?\nA. w\nB. x\nC. y\nD. z\nAnswer: B\n\n"
        "law test 0?\nA. w\nB. x\nC. y\nD. z\nAnswer: ("
    )
    assert [continuation for _, continuation in problems[0].pairs] == [" A", " B", " C", " D"]
    assert grade(task, problems[0], "[-1.0, -2.0, -3.0, -4.0]").score == 1.0
    assert grade(task, problems[0], "[-2.0, -1.0, -3.0, -4.0]").verdict == "wrong"
    with pytest.raises(UserError, match="4 examples are asked for, 3 are there"):
        load("base_mmlu", tmp_path, num_shots=4)
    with pytest.raises(ConfigError, match="has no examples"):
        find_task(TaskConfig(task="base_agieval", num_shots=1))


def test_choices_are_compared_per_character(tmp_path: Path) -> None:
    record = {
        "activity_label": "Run",
        "ctx_a": "He",
        "ctx_b": "runs",
        "endings": ["far away", "on", "a", "b"],
        "label": "0",
    }
    write(tmp_path / "hellaswag_val.jsonl", [record])
    task, (problem,) = load("base_hellaswag", tmp_path, num_shots=0)
    assert problem.prompt == "Run: He Runs" and problem.pairs[0] == ("Run: He Runs", " far away")
    # -4 over 8 characters is more than -2 over 2, and less where lengths do not count.
    found = grade(task, problem, "[-4.0, -2.0, -9.0, -9.0]")
    assert found.score == 1.0 and found.details == {"log_likelihood": 0.0, "per_character": 1.0}


@pytest.mark.parametrize(
    ("response", "score"),
    [(" 3 + 4 = 7\n#### 7", 1.0), (" It is 7.", 1.0), (" #### 1,007", 0.0), (" no number", 0.0), ("#### 7\n2", 1.0)],
)
def test_gsm8k(tmp_path: Path, response: str, score: float) -> None:
    class Same:
        async def reward(self, response: str, answer: str) -> float:
            return float(response == f"\\boxed{{{answer}}}")

    write(tmp_path / "gsm8k_test.jsonl", [{"question": "3+4?", "answer": "So\n#### 7"}])
    task, (problem,) = load("base_gsm8k", tmp_path, num_shots=0)
    assert problem.stop == ("Question:", "\n\n")
    assert asyncio.run(task.grade(problem, response, Graders(math=Same()))).score == score


def test_bbh_and_open_questions(tmp_path: Path) -> None:
    examples = {"examples": [{"input": "1+1=", "target": "(A)"}]}
    (tmp_path / "bbh" / "bbh").mkdir(parents=True)
    (tmp_path / "bbh" / "bbh" / "sums.json").write_text(json.dumps(examples))
    with pytest.raises(UserError, match="cot-prompts"):
        load("base_bbh", tmp_path)
    worked = "canary\n-----\nAdd.\n\n" + "\n\n".join(f"Q: {i}\nA: Let's think step by step.\nSo {i}." for i in range(3))
    (tmp_path / "bbh" / "cot-prompts").mkdir()
    (tmp_path / "bbh" / "cot-prompts" / "sums.txt").write_text(worked)
    task, (problem,) = load("base_bbh", tmp_path)
    assert problem.prompt == worked.partition("-----\n")[2] + "\n\nQ: 1+1=\nA: Let's think step by step.\n"
    assert grade(task, problem, "Hm. So the answer is (A).").score == 1.0
    assert grade(task, problem, "So the answer is (B).").score == 0.0
    assert grade(task, problem, "(A)").answer is None
    write(tmp_path / "triviaqa_val.jsonl", [{"question": "Who", "answer": {"aliases": ["The Beatles", "Beatles"]}}])
    task, (problem,) = load("base_triviaqa", tmp_path, num_shots=0)
    assert [grade(task, problem, one).score for one in (" the beatles.", " Stones", "")] == [1.0, 0.0, 0.0]


def test_programs_go_on_from_the_prompt(tmp_path: Path) -> None:
    prompt = 'def double(x):\n    """Twice x."""\n'
    test = "def check(f):\n    assert f(1) == 2"
    records = [
        {"task_id": f"t/{i}", "prompt": prompt.replace("double", f"double{i}"), "entry_point": f"double{i}",
         "test": test, "canonical_solution": "    return 2 * x\n"}
        for i in range(2)
    ]  # fmt: skip
    write(tmp_path / "HumanEval.jsonl", records)
    task, problems = load("base_humaneval", tmp_path)
    assert (problems[0].prompt or "").startswith(records[1]["prompt"] + records[1]["canonical_solution"])
    assert (problems[0].prompt or "").endswith(records[0]["prompt"])
    written = task.form.in_its_form("    return x + x\n", records[0])
    assert written == f"```python\n{records[0]['prompt']}    return x + x\n\n```"


def test_pairs_are_encoded_together() -> None:
    """Spaces at the context's end are the continuation's; the context alone decides where it begins."""

    def encode(text: str) -> list[int]:
        return [len(word) for word in text.split("-")]

    assert encode_pair(encode, "ab-cde ", "f-g") == ([2, 3], [1])
