"""Reading records in the forms of the public data sets, and grading hand-made answers."""

import asyncio
import base64
import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.letters import boxed_letters
from megatron_mimo.eval.protocol import EvalProblem, Graders
from megatron_mimo.eval.registry import file_tasks, find_task
from megatron_mimo.eval.tasks import cruxeval
from megatron_mimo.eval.tasks.livecodebench import LiveCodeBench, unpack_tests


def one(task: str, record: dict[str, Any]) -> EvalProblem:
    problem = file_tasks()[task].problem(record, 1)
    assert problem is not None
    return problem


def score(task: str, problem: EvalProblem, response: str) -> float:
    return asyncio.run(file_tasks()[task].grade(problem, response, Graders())).score


FORMS = {
    "mmlu": ({"question": "2+2?", "subject": "arithmetic", "choices": ["3", "4", "5", "6"], "answer": 1}, "B"),
    "mmlu_pro": (
        {"question_id": 7, "question": "2+2?", "options": ["1", "2", "3", "5", "4"], "answer": "E", "answer_index": 4},
        "E",
    ),
    "ceval": ({"id": 0, "question": "2+2?", "A": "3", "B": "4", "C": "5", "D": "6", "answer": "B"}, "B"),
    "cmmlu": ({"Question": "2+2?", "A": "3", "B": "5", "C": "4", "D": "6", "Answer": "C"}, "C"),
    "supergpqa": (
        {"uuid": "u", "question": "2+2?", "options": ["3", "4"], "answer": "4", "answer_letter": "B"},
        "B",
    ),
    "agieval": ({"passage": None, "question": "2+2?", "options": ["(A)3", "(B)4", "(C)5"], "label": "B"}, "B"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_multiple_choice(name: str) -> None:
    record, letter = FORMS[name]
    problem = one(name, record)
    assert problem.reference == letter
    assert f"{letter}. 4" in problem.messages[0]["content"].splitlines()
    assert score(name, problem, f"Thus \\boxed{{{letter}}}.") == 1.0
    assert score(name, problem, f"Thus {letter}.") == 0.0
    assert score(name, problem, "\\boxed{A} no, \\boxed{D}") == 0.0


def test_gpqa_is_shuffled_by_its_question_alone() -> None:
    letters = set()
    for number in range(40):
        record = {"Question": f"q{number}", "Correct Answer": "yes"}
        record |= {f"Incorrect Answer {i}": f"no{i}" for i in (1, 2, 3)}
        problem = one("gpqa_diamond", record)
        assert problem.reference == one("gpqa_diamond", record).reference
        assert f"{problem.reference}. yes" in problem.messages[0]["content"]
        letters.add(problem.reference)
    assert letters == set("ABCD")


@pytest.mark.parametrize(
    ("answer", "response", "verdict"),
    [
        ("AD", "AD", "right"), (["D", "A"], "A and D", "right"), ("A, D", "A", "wrong"),
        ("A", "AD", "no single letter"),
        ("A", "A. or B.", "no single letter"), ("A", "3 and 4", "no letter"), ("ad。", "D, A", "right"),
    ],
)  # fmt: skip
def test_several_right_answers_are_graded_as_a_set(answer: Any, response: str, verdict: str) -> None:
    record = {"question": "2+2?", "options": ["(A)4", "(B)5", "(C)3", "(D)four"], "label": answer}
    problem = one("agieval", record)
    grade = asyncio.run(file_tasks()["agieval"].grade(problem, f"\\boxed{{{response}}}", Graders()))
    assert grade.verdict.startswith(verdict) and grade.score == (verdict == "right")
    # What cannot be read is counted as unreadable.
    assert (grade.answer is None) == verdict.startswith("no")


def test_every_question_of_a_subject_says_that_several_may_be_right(tmp_path: Path) -> None:
    """Those with one right answer too: the instruction must not tell how many there are."""
    folder = tmp_path / "agieval"
    folder.mkdir()
    rows = [{"question": f"{i}?", "options": ["(A)x", "(B)y"], "label": label} for i, label in enumerate(["A", "AB"])]
    (folder / "law.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "art.jsonl").write_text(json.dumps(rows[0]))
    cloze = {"question": "1+1=", "options": None, "label": None, "answer": "2"}
    unanswered = {"question": "?", "options": ["(A)x", "(B)y"], "label": []}
    (folder / "math.jsonl").write_text(json.dumps(cloze) + "\n" + json.dumps(unanswered))
    task = file_tasks()["agieval"]
    problems = task.load(*task.find(str(tmp_path), None))
    said = {problem.id.split("/")[0]: "More than one" in problem.messages[0]["content"] for problem in problems}
    assert said == {"art": False, "law": True, "math": False}
    assert task.notes == ["1 of 5 records left out: math.jsonl record 2 (it has no right answer)"]


def test_options_in_one_text_are_split_at_their_marks_or_refused(tmp_path: Path) -> None:
    record = {"id": "0", "question": "Which?", "options": "A) x B) y, A) or so (C) $D) z$ D) w", "Answer": "C"}
    problem = one("sat_math", record)
    assert problem.options == ("x", "y, A) or so", "$D) z$", "w") and problem.shown == "C. $D) z$"
    path = tmp_path / "sat_math.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"options": "x or y", "Answer": "A"}))
    with pytest.raises(UserError, match="record 2 is no problem of task sat_math: its options are one text"):
        file_tasks()["sat_math"].load(path)


def test_mmlu_as_it_was_published(tmp_path: Path) -> None:
    """Files without a first row of names, one a subject, folders of splits."""
    for split in ("dev", "test"):
        (tmp_path / "mmlu" / split).mkdir(parents=True)
        for subject in ("law", "art"):
            rows = f'"What, in {subject}?",1,2,3,4,B\nAnd?,A,B,C,D,D\n'
            (tmp_path / "mmlu" / split / f"{subject}_{split}.csv").write_text(rows)
    task = file_tasks()["mmlu"]
    problems = task.load(*task.find(str(tmp_path), None))
    assert [(p.group, p.reference, p.options) for p in problems[:2]] == [
        ("art", "B", ("1", "2", "3", "4")), ("art", "D", ("A", "B", "C", "D")),
    ]  # fmt: skip
    assert len(problems) == 4 and problems[2].messages[0]["content"].startswith("What, in law?\nA. 1")
    assert len(task.load(*task.find("", str(tmp_path / "mmlu" / "dev")))) == 4


def test_livecodebench_reads_all_parts(tmp_path: Path) -> None:
    """As the data set is downloaded: test.jsonl, test2.jsonl, ..."""
    for part in ("", "2", "3"):
        row = lcb_record(question_id=f"q{part}", contest_date="2024-09-01")
        (tmp_path / f"test{part}.jsonl").write_text(json.dumps(row) + "\n")
    task = find_task(TaskConfig(task="livecodebench", first_date="2024-08-01", end_date="2025-02-01"))
    assert isinstance(task, LiveCodeBench)
    assert [problem.id for problem in task.load(*task.find(str(tmp_path), None))] == ["q", "q2", "q3"]
    assert "read test.jsonl, test2.jsonl, test3.jsonl" in task.notes[-1]
    (tmp_path / "test2.jsonl").unlink()
    task.find(str(tmp_path), None)
    assert "WITHOUT test2.jsonl" in task.notes[-1]


def test_wrong_questions_of_mmlu_redux_are_left_out() -> None:
    record = {"question": "?", "choices": ["a", "b"], "answer": 0, "error_type": "wrong_groundtruth"}
    assert file_tasks()["mmlu_redux"].problem(record, 1) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(C)", "C"), ("\\text{D}", "D"), ("A. the first", "A"), ("\\textbf{(B)}", "B"), ("ab", None)],
)
def test_boxed_letter(text: str, letter: str | None) -> None:
    assert boxed_letters(f"\\boxed{{{text}}}", ["the first", "2", "3", "4"])[0] == letter


def test_an_answer_inside_of_unfinished_reasoning_does_not_count() -> None:
    problem = one("mmlu", FORMS["mmlu"][0])
    assert score("mmlu", problem, "<think>maybe \\boxed{B}") == 0.0
    assert score("mmlu", problem, "<think>\\boxed{A}</think>\\boxed{B}") == 1.0


def test_mathematics_takes_the_answer_or_the_boxed_solution() -> None:
    assert one("gsm8k", {"question": "q", "answer": "so\n#### 1,234"}).reference == "1234"
    assert one("math", {"problem": "p", "solution": r"is $\boxed{\frac{1}{2}}$"}).reference == r"\frac{1}{2}"
    assert one("amc23", {"id": 0, "question": "q", "answer": 27.0}).reference == "27"


def test_humaneval_gives_the_answer_the_prompts_imports() -> None:
    prompt = 'from typing import List\n\ndef f(x: List[int]) -> int:\n    """Sum."""\n'
    record = {"task_id": "t/0", "prompt": prompt, "entry_point": "f", "test": "def check(c):\n    assert c([1]) == 1"}
    problem = one("humaneval", record | {"canonical_solution": "    return sum(x)\n"})
    assert problem.reference.header == "from typing import List\n\n"
    assert problem.reference.tests[0].program.endswith("check(f)")
    assert "assert" not in problem.messages[0]["content"]


def lcb_record(**changes: Any) -> dict[str, Any]:
    private = [{"input": "2\n", "output": "4\n", "testtype": "stdin"}]
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(private)))).decode()
    return {
        "question_id": "q",
        "question_content": "Double it.",
        "starter_code": "",
        "contest_date": "2024-08-01T00:00:00",
        "public_test_cases": json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}]),
        "private_test_cases": packed,
        "metadata": "{}",
    } | changes


def test_livecodebench_reads_packed_tests() -> None:
    problem = LiveCodeBench().problem(lcb_record(), 1)
    assert problem is not None
    assert (problem.reference.inputs, problem.reference.outputs) == (["1\n", "2\n"], ["2\n", "4\n"])


def test_livecodebench_never_unpickles() -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path("never").touch, ())

    packed = base64.b64encode(zlib.compress(pickle.dumps([Attack(), "a", "b"]))).decode()
    with pytest.raises(ValueError):
        unpack_tests(packed)
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("date", "inside"), [("2024-07-31", False), ("2024-08-01", True), ("2025-01-31", True), ("2025-02-01", False)]
)
def test_livecodebench_window(date: str, inside: bool) -> None:
    task = find_task(TaskConfig(task="livecodebench", first_date="2024-08-01", end_date="2025-02-01"))
    assert isinstance(task, LiveCodeBench)
    assert (task.problem(lcb_record(contest_date=f"{date}T12:00:00"), 1) is not None) == inside


@pytest.mark.parametrize(
    ("answer", "wanted", "same"),
    [
        ("[1, 2]", "[1,2]", True),
        ("(1, 2)", "[1, 2]", False),
        ("1", "True", False),
        ("{'a': 1}", "{'a':1}", True),
        ("assert f(3) == 'x'", "'x'", True),
        ("f([1]) == [1,2]", "[1, 2]", True),
        ("[1.0]", "[1]", False),
        ("[True]", "[1]", False),
        ("{'a': (1, {2})}", "{'a': (1, {2})}", True),
        ("{1: 1}", "{True: 1}", False),
        ("'a == b'", "'a == b'", True),
        ("__import__('os')", "1", False),
    ],
)
def test_cruxeval_outputs_are_compared_as_literals(answer: str, wanted: str, same: bool) -> None:
    assert cruxeval.same_literal(answer, wanted) == same


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        ("f(1, 'a')", "f(1, 'a')"),
        ("assert f([2]) == 3", "f([2])"),
        ("1, 2", "f(1, 2)"),
        ("f(1)\nimport os", None),
        ("g(1)", "f(g(1))"),
        ("f(1) or g()", "f(f(1) or g())"),
    ],
)
def test_cruxeval_inputs_are_one_call_of_f(answer: str, call: str | None) -> None:
    assert cruxeval.call_of_f(answer) == call


def test_files_in_all_forms(tmp_path: Path) -> None:
    record = {"problem": "p", "answer": "1"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps([record]))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))
    (tmp_path / "d.csv").write_text("problem,answer\np,1\n")
    task = file_tasks()["math_500"]
    for path in sorted(tmp_path.iterdir()):
        assert [problem.reference for problem in task.load(path)] == ["1"], path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"problem": "p", "answer": "1"}\n{"problem": ', "line 2 is not JSON"),
        ("", "holds no problems"),
        ("[1]\n", "record 1 is no JSON object"),
        ('{"answer": "1"}\n', "has no problem or question"),
        ('{"problem": "p", "solution": "none"}\n', "no \\boxed answer"),
        ('{"id": 1, "problem": "p", "answer": "1"}\n{"id": 1, "problem": "q", "answer": "1"}\n', "stands twice"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "math_500.jsonl"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        file_tasks()["math_500"].load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no gsm8k_test.jsonl or gsm8k.jsonl"):
        file_tasks()["gsm8k"].find(str(tmp_path), None)


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="is one of"):
        find_task(TaskConfig(task="gsm9k"))
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        TaskConfig(task="livecodebench", first_date="August")
    with pytest.raises(ConfigError, match="is for base models' tasks"):
        find_task(TaskConfig(task="gsm8k", num_shots=5))
    with pytest.raises(ConfigError, match="greedy"):
        TaskConfig(task="gsm8k", temperature=0.0, repetitions=2)
