"""Small files in the published formats of benchmarks, read from the disk as a run reads them, and graded.

The columns are those of the public data sets, others of theirs included; the contents are made up.
"""

import asyncio
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from megatron_mimo.config import UserError
from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders
from megatron_mimo.eval.registry import file_tasks
from megatron_mimo.judge import JudgeConfig, JudgePool

needs_judge = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
pytestmark = pytest.mark.slow


def load(task: str, path: Path) -> tuple[EvalTask, list[EvalProblem]]:
    return file_tasks()[task], file_tasks()[task].load(path)


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def graded(task: EvalTask, problem: EvalProblem, *codes: str) -> list[float]:
    """Scores of programs, judged with numpy at hand."""
    packages = (str(Path(np.__file__).parents[1]),)

    async def all_of_them(pool: JudgePool) -> list[Grade]:
        graders = Graders(judge=pool)
        return [await task.grade(problem, f"```python\n{code}\n```", graders) for code in codes]

    with JudgePool(JudgeConfig(num_slots=1, python_packages=packages)) as pool:
        return [grade.score for grade in asyncio.run(all_of_them(pool))]


CLOSE = """import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float) or isinstance(x, (list, tuple)) and all(isinstance(i, float) for i in x)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and is_floats(exp):
        np.testing.assert_allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"
"""
"""The helper that every EvalPlus test program carries, in our words."""


@needs_judge
def test_humaneval_plus(tmp_path: Path) -> None:
    prompt = 'from typing import List\n\n\ndef halves(xs: List[int]) -> List[float]:\n    """ Half of each. """\n'
    check = (
        "def check(candidate):\n    inputs = [[[1, 2]], [[]], [[-3]]]\n    results = [[0.5, 1.0], [], [-1.5]]\n"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n"
    )
    row = {"task_id": "HumanEval/900", "prompt": prompt, "canonical_solution": "    return [x / 2 for x in xs]\n",
           "entry_point": "halves", "test": f"{CLOSE}\n{check}"}  # fmt: skip
    task, (problem,) = load("humaneval_plus", parquet(tmp_path / "humanevalplus.parquet", [row]))
    right = "def halves(xs: List[int]) -> List[float]:\n    return [x / 2 for x in xs]"
    nearly = right.replace("x / 2", "x * 0.5000000001")
    assert graded(task, problem, right, nearly, right.replace("/ 2", "// 2"), "def other(): pass") == [1, 1, 0, 0]


@needs_judge
def test_mbpp_plus(tmp_path: Path) -> None:
    test = (
        f"{CLOSE}\ninputs = [[[3, 1]], [[]]]\nresults = [[1, 3], []]\n"
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(ordered(*inp), exp, 0)\n"
    )
    row = {"task_id": 902, "code": "def ordered(xs):\n  return sorted(xs)", "prompt": "Write a function that sorts.",
           "source_file": "Benchmark Questions Verification V2.ipynb", "test_imports": [],
           "test_list": ["assert ordered([3, 1]) == [1, 3]"], "test": test}  # fmt: skip
    task, (problem,) = load("mbpp_plus", parquet(tmp_path / "mbppplus.parquet", [row]))
    # The second one passes what the prompt shows and nothing else.
    shown_alone = "def ordered(xs):\n    return [1, 3]"
    assert graded(task, problem, "def ordered(xs):\n    return sorted(xs)", shown_alone) == [1, 0]


@pytest.mark.parametrize(("task", "name"), [("humaneval_plus", "HumanEval/0"), ("mbpp_plus", "Mbpp/2")])
def test_evalplus_releases_are_refused_with_the_way_out(tmp_path: Path, task: str, name: str) -> None:
    """They hold no outputs: read as they stand, HumanEval's few tests would pass for HumanEval+'s."""
    row = {"task_id": name, "prompt": "def f(x):\n", "entry_point": "f", "canonical_solution": "    return x\n",
           "contract": "", "base_input": [[1]], "plus_input": [[2]], "atol": 0,
           "test": "def check(candidate):\n    assert candidate(1) == 1\n"}  # fmt: skip
    path = tmp_path / "Plus.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"record 1 is no problem of task .*evalplus/humanevalplus"):
        load(task, path)


def test_gpqa_csv(tmp_path: Path) -> None:
    columns = {
        "Pre-Revision Question": "old?", "Pre-Revision Correct Answer": "old", "Question": "Which one, \"a\" or b?\n",
        "Correct Answer": " the first ", "Incorrect Answer 1": "second", "Incorrect Answer 2": "third, maybe",
        "Incorrect Answer 3": "fourth", "Explanation": "...", "Subdomain": "Optics", "High-level domain": "Physics",
        "Record ID": "rec1", "Canary String": "",
    }  # fmt: skip
    path = tmp_path / "gpqa_diamond.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerow(columns)
    task, (problem,) = load("gpqa_diamond", path)
    assert (problem.shown, problem.group) == (f"{problem.reference}. the first", "Optics")
    assert "old?" not in problem.messages[0]["content"]
    assert asyncio.run(task.grade(problem, f"\\boxed{{{problem.reference}}}", Graders())).score == 1.0


ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "mmlu": ({"question": "q", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 2}, "C", "anatomy"),
    "mmlu_pro": ({"question_id": 70, "question": "q", "options": [*"stuvwxyz", "aa", "bb"], "answer": "J",
                  "answer_index": 9, "cot_content": "", "category": "law", "src": "s"}, "J", "law"),
    "mmlu_redux": ({"question": "q", "choices": ["w", "x", "y", "z"], "answer": 0, "error_type": "ok", "source": None,
                    "correct_answer": None, "potential_reason": None}, "A", ""),
    "supergpqa": ({"uuid": "u1", "question": "q", "options": ["w", "x", "y"], "answer": "x", "answer_letter": "B",
                   "discipline": "Law", "field": "f", "subfield": "s", "difficulty": "easy", "is_calculation": False},
                  "B", "Law"),
    "ceval": ({"id": 3, "question": "q", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "D", "explanation": ""},
              "D", ""),
    "agieval": ({"query": "q\nAnswer Choices: (A)w (B)x", "choices": ["(A)w", "(B)x"], "gold": [1]}, "B", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_multiple_choice_in_parquet(tmp_path: Path, name: str) -> None:
    row, letter, group = ROWS[name]
    task, (problem,) = load(name, parquet(tmp_path / f"{name}.parquet", [row]))
    assert (problem.reference, problem.group) == (letter, group)
    scores = [
        asyncio.run(task.grade(problem, f"<think>\\boxed{{Z}}</think> \\boxed{{{one}}}", Graders())).score
        for one in (letter, "E" if letter == "A" else "A")
    ]
    assert scores == [1.0, 0.0]


def test_cmmlu_csv(tmp_path: Path) -> None:
    """Its first column has no name."""
    path = tmp_path / "cmmlu.csv"
    path.write_text(
        ",Question,A,B,C,D,Answer\n0,下列哪项正确,甲,乙,丙,丁,B\n1,另一题,甲,乙,丙,丁,D\n", encoding="utf-8"
    )
    _, problems = load("cmmlu", path)
    assert [problem.reference for problem in problems] == ["B", "D"]


def test_sanitized_mbpp_and_aime(tmp_path: Path) -> None:
    mbpp = tmp_path / "mbpp.json"
    row = {"source_file": "s", "task_id": 11, "prompt": "Write f.", "code": "def f():\n  return sqrt(4)",
           "test_imports": ["from math import sqrt"], "test_list": ["assert f() == sqrt(4)"]}  # fmt: skip
    mbpp.write_text(json.dumps([row]))
    _, (problem,) = load("mbpp", mbpp)
    assert problem.reference.tests[0].program.splitlines()[-2:] == ["from math import sqrt", "assert f() == sqrt(4)"]
    aime = parquet(tmp_path / "aime24.parquet", [{"ID": "2024-I-1", "Problem": "p", "Solution": "s", "Answer": 204}])
    _, (problem,) = load("aime24", aime)
    assert (problem.id, problem.reference) == ("2024-I-1", "204")
