"""Golden answers of public benchmarks are graded right, other problems' answers wrong, through the tasks themselves;
and the judge's verdicts on the golden programs equal a plain trusted run in a bare interpreter.

The data is looked for in $MEGATRON_MIMO_BENCHMARKS or ../shared/data/benchmarks.
"""

import ast
import asyncio
import builtins
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, GradeFault, Graders
from megatron_mimo.eval.registry import file_tasks
from megatron_mimo.judge import AssertTest, JudgeConfig, JudgePool, JudgeRequest, JudgeResult, Solution
from megatron_mimo.judge.request import Test
from megatron_mimo.reward.math_answer import MathVerifier
from support.patience import patience

DATA = Path(os.environ.get("MEGATRON_MIMO_BENCHMARKS", Path(__file__).parents[3] / "shared/data/benchmarks"))
pytestmark = pytest.mark.slow
SHUFFLED = 600
"""Problems whose answers are exchanged, of sets with more."""


def load(name: str, file: str) -> tuple[EvalTask, list[EvalProblem]]:
    if not (DATA / file).exists():
        pytest.skip(f"no {file} in {DATA}")
    if "judge" in file_tasks()[name].needs and shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    task = file_tasks()[name]
    return task, task.load(*task.find("", str(DATA / file)))


class RememberingJudge(JudgePool):
    """Two slots, and the same question only once: the tests of this file ask about the same golden programs.

    The slots are opened with the first question: where there is no bubblewrap, tests that need none still run.
    """

    def __init__(self) -> None:
        self._pool: JudgePool | None = None
        self._asked: dict[bytes, Future[JudgeResult]] = {}

    def submit(self, request: JudgeRequest) -> Future[JudgeResult]:
        """A run of all tests also answers whoever would stop at the first failure."""
        whole = msgspec.structs.replace(request, stop_at_first_failure=False)
        keys = [msgspec.json.encode(one) for one in (whole, request)]
        known = next((key for key in keys if key in self._asked), None)
        if known is None:
            self._pool = self._pool or JudgePool(JudgeConfig(num_slots=2))
            known = keys[1]
            self._asked[known] = self._pool.submit(request)
        return self._asked[known]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    """Two workers of each kind, started with the first question."""
    math, judge = MathVerifier(2), RememberingJudge()
    yield Graders(math=math, judge=judge)
    math.close()
    judge.close()


async def grade_all(task: EvalTask, pairs: list[tuple[EvalProblem, str]], graders: Graders) -> list[float | None]:
    """Scores of (problem, response), two at a time; None where the grader cannot tell."""
    graded = (task.grade(problem, response, graders) for problem, response in pairs)
    return [_score(grade) for grade in await asyncio.gather(*graded, return_exceptions=True)]


def _score(grade: Grade | BaseException) -> float | None:
    """A golden answer that is no formula and not what was answered is a fault of the grader's, never a zero."""
    if isinstance(grade, GradeFault):
        return None
    if isinstance(grade, BaseException):
        raise grade
    return grade.score


def defined_builtins(source: str) -> list[str]:
    """Functions of the golden solution that carry a builtin's name (MBPP has `sum`)."""
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [name for name in names if hasattr(builtins, name)]


def mbpp() -> list[tuple[str, str, list[Test]]]:
    problems = []
    for line in (DATA / "mbpp.jsonl").read_text().splitlines():
        record = json.loads(line)
        setup = record.get("test_setup_code") or ""
        entry_points = defined_builtins(record["code"])
        tests: list[Test] = [
            AssertTest(program=f"{setup}\n{t}", entry_points=entry_points) for t in record["test_list"]
        ]
        # With a line break at its end, as it stands in an answer's code block.
        problems.append((str(record["task_id"]), record["code"] + "\n", tests))
    return problems


def human_eval() -> list[tuple[str, str, list[Test]]]:
    problems = []
    for line in gzip.decompress((DATA / "HumanEval.jsonl.gz").read_bytes()).splitlines():
        record = json.loads(line)
        program = f"{record['test']}\ncheck({record['entry_point']})"
        # The prompt ends inside the function; its helpers are trusted, the function itself is the solution's.
        prelude = record["prompt"] + "    pass\n"
        tests: list[Test] = [AssertTest(program=program, prelude=prelude, entry_points=[record["entry_point"]])]
        problems.append((record["task_id"], record["prompt"] + record["canonical_solution"], tests))
    return problems


PLAIN_RUN = """
import json, os, signal, sys
for line in sys.stdin:
    source, programs, limit_seconds = json.loads(line)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(limit_seconds)
        for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            os.dup2(os.open(os.devnull, mode), descriptor)
        verdicts = []
        for program in programs:
            try:
                exec(compile(source + "\\n" + program + "\\n", "<test>", "exec"), {"__name__": "__main__"})
                verdicts.append(True)
            except BaseException:
                verdicts.append(False)
        os.write(theirs, json.dumps(verdicts).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        print(answer.read(), flush=True)
    os.waitpid(child, 0)
"""


def plain_runs(problems: list[tuple[str, str, list[Test]]]) -> list[list[bool]]:
    """Each problem in a fork of one bare interpreter, and each test after a run of the source of its own."""
    limit_seconds = int(patience(60))
    asked = [
        json.dumps([source, [test.program for test in tests if isinstance(test, AssertTest)], limit_seconds])
        for _, source, tests in problems
    ]
    command = [sys.executable, "-I", "-c", PLAIN_RUN]
    done = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, check=True)
    # A program that its alarm has ended leaves an empty line, which is no JSON.
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.parametrize(("name", "load"), [("mbpp.jsonl", mbpp), ("HumanEval.jsonl.gz", human_eval)])
def test_verdicts_on_golden_solutions_are_those_of_a_plain_run(
    name: str, load: Callable[[], list[tuple[str, str, list[Test]]]], graders: Graders
) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"no {name} in {DATA}")
    problems, judge = load(), graders.judge
    assert isinstance(judge, RememberingJudge)
    with ThreadPoolExecutor(1) as thread:
        trusted = thread.submit(plain_runs, problems)
        judged = [judge.submit(JudgeRequest(solution=Solution(source=one[1]), tests=one[2])) for one in problems]
        different = [
            (identity, plain, future.result())
            for (identity, _, _), plain, future in zip(problems, trusted.result(), judged, strict=True)
            if future.result().passed != plain
        ]
    assert not different, f"{len(different)} of {len(problems)}: {different[:20]}"


@pytest.mark.parametrize(
    ("name", "file", "count", "share"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319, 1.0),
        ("math", "math_test.jsonl", 5000, 0.995),
        ("amc23", "amc23.jsonl", 40, 1.0),
        ("aime24", "aime24", 30, 1.0),
        ("minerva_math", "minerva_math", 272, 0.995),
        ("gaokao2023en", "gaokao2023en", 383, 1.0),
        ("sat_math", "sat_math", 32, 1.0),
        ("mmlu", "mmlu", 14042, 1.0),
        ("ceval", "ceval", 1346, 1.0),
        ("agieval", "agieval", 8268, 0.995),
        ("humaneval", "HumanEval.jsonl.gz", 164, 1.0),
        ("mbpp_all", "mbpp.jsonl", 974, 0.99),
        ("cruxeval_o", "cruxeval.jsonl", 800, 1.0),
        ("cruxeval_i", "cruxeval.jsonl", 800, 1.0),
    ],
)
def test_golden_answers_are_right(name: str, file: str, count: int, share: float, graders: Graders) -> None:
    task, problems = load(name, file)
    assert len(problems) == count
    scores = asyncio.run(grade_all(task, [(problem, problem.golden or "") for problem in problems], graders))
    wrong = [problem.id for problem, score in zip(problems, scores, strict=True) if score != 1.0]
    print(f"{name}: {count - len(wrong)} of {count}; not: {wrong[:20]}")
    assert len(wrong) <= (1 - share) * count, wrong


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gsm8k", "gsm8k_test.jsonl"),
        ("math", "math_test.jsonl"),
        ("humaneval", "HumanEval.jsonl.gz"),
        ("mbpp_all", "mbpp.jsonl"),
        ("amc23", "amc23.jsonl"),
        ("cruxeval_o", "cruxeval.jsonl"),
        ("aime24", "aime24"),
        ("minerva_math", "minerva_math"),
        ("gaokao2023en", "gaokao2023en"),
        ("sat_math", "sat_math"),
        ("mmlu", "mmlu"),
        ("ceval", "ceval"),
        ("agieval", "agieval"),
    ],
)
def test_answers_of_other_problems_are_rejected(name: str, file: str, graders: Graders) -> None:
    """Not CRUXEval's inputs: any that gives the output is right, and another problem's does now and then."""
    task, problems = load(name, file)
    pairs = exchanged(problems)
    scores = asyncio.run(grade_all(task, pairs, graders))
    accepted = [problem.id for (problem, _), score in zip(pairs, scores, strict=True) if score]
    faults = scores.count(None)
    print(f"{name}: {len(accepted)} of {len(pairs)} wrong answers accepted: {accepted[:10]}; {faults} cannot be told")
    assert faults <= 0.02 * len(pairs)
    assert len(accepted) <= 0.005 * len(pairs), accepted


def exchanged(problems: list[EvalProblem]) -> list[tuple[EvalProblem, str]]:
    """Problems with the golden answer of another one whose reference reads differently."""
    chosen = random.Random(0).sample(problems, min(SHUFFLED, len(problems)))
    pairs = []
    for place, problem in enumerate(chosen):
        others = (chosen[(place + step) % len(chosen)] for step in range(1, len(chosen)))
        other = next(one for one in others if differ(one, problem))
        pairs.append((problem, other.golden or ""))
    return pairs


def differ(one: EvalProblem, other: EvalProblem) -> bool:
    if one.options and other.options:
        return one.reference != other.reference
    return normal(one.shown) != normal(other.shown)


def normal(text: str) -> str:
    return "".join(letter for letter in text.replace("dfrac", "frac") if letter.isalnum() or letter in "-+.")
