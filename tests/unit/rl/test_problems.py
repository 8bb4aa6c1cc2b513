"""Readers, curation and nano problems; real files of ../shared/data where they are (skipped without)."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import msgspec
import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.judge.request import AssertTest, CallTest, StdioTest
from megatron_mimo.judge.result import JudgeResult, TestResult, Verdict
from megatron_mimo.rl.problems import readers
from megatron_mimo.rl.problems.curation import NgramDedup, ProblemForm, fault_of_form
from megatron_mimo.rl.problems.difficulty import DifficultyRules, RolloutResults, why_drop, with_levels
from megatron_mimo.rl.problems.golden import GoldenSolution
from megatron_mimo.rl.problems.nano import nano_code, nano_math
from megatron_mimo.rl.problems.problem import Problem, read_problems, to_document, write_problems

SHARED = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"


def read(path: Path, form: str, records: list[dict]) -> tuple[list[Problem], list[str]]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    faults: list[str] = []
    return list(readers.read(path, form, lambda place, why: faults.append(f"{place} {why}"))), faults


def maths(prompt: str, answer: str = "4") -> Problem:
    return Problem(id=prompt[:9], prompt=prompt, kind="math", answer=answer)


def test_mathematics_readers_keep_answers(tmp_path: Path) -> None:
    (problem,), faults = read(
        tmp_path / "g.jsonl", "gsm8k", [{"question": "q", "answer": "2+2\n#### 1,042.50"}, {"question": "q"}]
    )
    assert problem.answer == "1,042.50" and len(faults) == 1 and faults[0].startswith("g.jsonl:2")
    solution = r"so \boxed{1} and finally \boxed{\frac{3}{\sqrt{2}}}."
    problems, faults = read(
        tmp_path / "m.jsonl",
        "math",
        [{"problem": "p", "solution": solution}, {"question": "p", "answer": 7}, {"problem": "p", "solution": "?"}],
    )
    assert [problem.answer for problem in problems] == [r"\frac{3}{\sqrt{2}}", "7"] and len(faults) == 1


def test_code_readers(tmp_path: Path) -> None:
    record = {
        "text": "Sum.",
        "task_id": 4,
        "code": "x",
        "test_list": ["assert f(1)==1"],
        "test_setup_code": "import re",
    }
    (problem,), _ = read(tmp_path / "b.jsonl", "mbpp", [record])
    assert problem.tests == [AssertTest(program="import re\nassert f(1)==1")]
    assert "assert f(1)==1" in problem.prompt and problem.golden == "x"

    public = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
    private = json.dumps([{"input": '[1, 2]\n"a"', "output": "[3]", "testtype": "functional"}])
    packed = base64.b64encode(zlib.compress(private.encode())).decode()
    record = {
        "question_id": "q1",
        "question_content": "Do it.",
        "starter_code": "class Solution: ...",
        "public_test_cases": public,
        "private_test_cases": packed,
        "metadata": json.dumps({"func_name": "go"}),
    }
    (problem,), _ = read(tmp_path / "l.jsonl", "livecodebench", [record])
    assert problem.tests == [
        StdioTest(stdin="1\n", stdout="2\n"),
        CallTest(function="go", arguments=[[1, 2], "a"], expected=[3]),
    ]
    assert "class Solution" in problem.prompt


def test_pickled_tests_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("it was loaded",))

    packed = base64.b64encode(zlib.compress(pickle.dumps(Trap()))).decode()
    record = {"question_content": "x", "public_test_cases": "[]", "private_test_cases": packed}
    problems, faults = read(tmp_path / "l.jsonl", "livecodebench", [record])
    assert not problems and "never loaded" in faults[0]


def test_compressed_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_TESTS_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000"):
        readers.private_cases(base64.b64encode(zlib.compress(b"[" + b" " * 9000 + b"]")).decode())


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gsm8k"):
        list(readers.read(tmp_path / "x", "nonsense", lambda *_: None))
    with pytest.raises(UserError, match="cannot read"):
        list(readers.read(tmp_path / "x", "math", lambda *_: None))
    (tmp_path / "y").write_text('{"a": 1}\n{\n')
    with pytest.raises(UserError, match="line 2"):
        list(readers.read(tmp_path / "y", "math", lambda *_: None))


def test_problem_files_keep_everything(tmp_path: Path) -> None:
    problems = [problem for problem, _ in [*nano_code()][:5]] + [problem for problem, _ in [*nano_math()][:5]]
    assert write_problems(tmp_path / "p.jsonl", problems) == 10
    assert list(read_problems(tmp_path / "p.jsonl")) == problems
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write('{"id": 3}\n')
    with pytest.raises(UserError, match="line 11"):
        list(read_problems(tmp_path / "p.jsonl"))


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (maths("Prove that 2 is even."), "proof"),
        (maths("Show that the sum is $n^2$."), "proof"),
        (maths("Let x = 3. Show the value of x."), None),
        (maths("What is the area? (A) 1 (B) 2 (C) 3 (D) 4", "B"), "multiple choice"),
        (maths("Choose.\nA. one\nB. two\nC. three", "A"), "multiple choice"),
        (maths(r"Pick: $\textbf{(A)}\ 1 \qquad \textbf{(B)}\ 2 \qquad \textbf{(C)}\ 3$", "C"), "multiple choice"),
        (maths("Triangle ABC has sides A, B and C. Find the area."), None),
        (maths("What is 2+2?", " "), "no answer"),
        (maths(" "), "no prompt"),
        (Problem(id="c", prompt="Code it", kind="code"), "no tests"),
        (Problem(id="c", prompt="Code it", kind="code", tests=[StdioTest(stdin="", stdout="1")]), None),
    ],
)
def test_form(problem: Problem, reason: str | None) -> None:
    assert fault_of_form(problem) == reason
    task = Task()
    kept = list(ProblemForm().run([to_document(problem)], task))
    assert len(kept) == (reason is None)
    assert dict(task.counts) == ({f"form/dropped/{reason}": 1} if reason else {})


def test_a_form_that_problems_share_is_no_repetition() -> None:
    """Half of each text is the same as in all others, and its first words stand in one earlier text each."""
    form = "Your code should satisfy this test which checks the function that you write: assert"
    starts = [
        f"Sort the {index} marbles of child {index} by the sum of their {index + 1} colours." for index in range(120)
    ]
    texts = [f"{start} {form} f{index}(1) == 1" for index, start in enumerate(starts)]
    again = f"{starts[7]} {form} g7(1) == 1"
    task = Task()
    kept = list(NgramDedup().run([to_document(maths(text)) for text in [*texts, again]], task))
    assert [document.text for document in kept] == texts
    assert task.counts["ngram_dedup/dropped/repetition"] == 1


def test_ngram_dedup() -> None:
    long = "A train leaves the station at nine and travels two hundred miles before it stops in the next town"
    texts = [long, long.upper() + "!", "Ann says: " + long, "What is 2+2?", "what is 2 + 2", "What is 2+3?"]
    task = Task()
    kept = NgramDedup().run([to_document(maths(text)) for text in texts], task)
    assert [document.text for document in kept] == [long, "What is 2+2?", "What is 2+3?"]
    assert task.counts["ngram_dedup/dropped/repetition"] == 3


def test_golden_solutions() -> None:
    class Judge:
        def judge_now(self, solution, tests, **options):
            verdict = Verdict(solution.source)
            return JudgeResult(verdict=verdict, tests=[TestResult(verdict=verdict)])

    tests = [StdioTest(stdin="", stdout="")]
    goldens = ["accepted", "wrong_answer", "judge_fault", ""]
    problems = [Problem(id=g or "none", prompt="p", kind="code", tests=tests, golden=g) for g in goldens]
    task = Task()
    kept = GoldenSolution().check([to_document(problem) for problem in problems], task, Judge())
    assert [document.id for document in kept] == ["accepted", "judge_fault", "none"]
    assert [fault.place for fault in task.faults] == ["judge_fault"]


def test_difficulty_rules() -> None:
    rules, none = DifficultyRules(), RolloutResults(solved=[])
    code = Problem(id="c", prompt="p", kind="code", tests=[StdioTest(stdin="", stdout="")] * 2)

    def solved(number: int) -> RolloutResults:
        return RolloutResults(solved=[True] * number + [False] * (16 - number))

    assert why_drop(maths("p"), solved(14), None, rules) is None  # 87.5 %
    assert why_drop(maths("p"), solved(15), None, rules) == "too easy"  # 93.75 %
    assert why_drop(code, solved(15), None, rules) is None
    assert why_drop(code, solved(16), None, rules) == "too easy"
    assert why_drop(maths("p"), solved(3), solved(0), rules) == "unsolved"
    assert why_drop(maths("p"), none, none, rules) is None
    partly = RolloutResults(solved=[False], passed=[[False, True]])
    never = RolloutResults(solved=[False], passed=[[False, False]])
    assert why_drop(code, solved(1), partly, rules) is None
    assert why_drop(code, solved(1), never, rules) == "unsolved"
    assert why_drop(msgspec.structs.replace(code, golden="x"), solved(1), never, rules) is None


def test_levels_from_rollouts() -> None:
    code = Problem(id="c", prompt="p", kind="code", tests=[StdioTest(stdin="", stdout="")] * 3)
    rows = [[True, False, True], [True, False, False], [True, True, True], [True, False, True]]
    levelled = with_levels(code, rows, [0.3, 0.7])
    assert levelled.levels == [0, 1, 0] and levelled.scores == [0.3, 0.7]
    with pytest.raises(ConfigError):
        with_levels(code, [[True]], [1.0])


def test_nano_problems() -> None:
    mathematics = [problem for problem, _ in nano_math()]
    for problem in mathematics:
        question = problem.prompt.removeprefix("Question: ").removesuffix("=?\n")
        assert eval(question) == int(problem.answer)
    assert {problem.source for problem in mathematics} == {f"arithmetic/{level}" for level in range(4)}
    assert 0.01 < sum(held for _, held in nano_math()) / len(mathematics) < 0.06
    programs = [*nano_code()]
    assert 0.05 < sum(held for _, held in programs) / len(programs) < 0.15
    for problem, _ in programs:
        names: dict = {}
        exec(problem.golden, names)
        assert all(names[test.function](*test.arguments) == test.expected for test in problem.tests)
        assert problem.levels is not None and len(problem.levels) == len(problem.tests)


@pytest.mark.parametrize(
    ("name", "form", "least"),
    [("gsm8k_test.jsonl", "gsm8k", 1319), ("math_test.jsonl", "math", 4900), ("mbpp.jsonl", "mbpp", 900)],
)
def test_real_files(name: str, form: str, least: int) -> None:
    if not (SHARED / name).exists():
        pytest.skip("no shared data here")
    faults: list[str] = []
    problems = list(readers.read(SHARED / name, form, lambda place, why: faults.append(why)))
    assert len(problems) >= least and not faults
    dropped = [problem for problem in problems if fault_of_form(problem)]
    assert len(dropped) < 0.02 * len(problems), [(fault_of_form(p), p.prompt[:200]) for p in dropped[:20]]
