"""LiveCodeBench: the strict judge and the compatibility mode on programs whose fate under its own runner is known."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from megatron_mimo.eval.protocol import Grade, Graders
from megatron_mimo.eval.tasks.livecodebench import LiveCodeBench
from megatron_mimo.judge import JudgeConfig, JudgePool

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")]


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    with JudgePool(JudgeConfig(num_slots=2)) as pool:
        yield pool


def grade(pool: JudgePool, runner: str, source: str, tests: list[dict[str, str]], function: str | None = None) -> Grade:
    record: dict[str, Any] = {
        "question_id": "q",
        "question_content": "q",
        "starter_code": "",
        "contest_date": "2024-08-01T00:00:00",
        "public_test_cases": json.dumps(tests),
        "private_test_cases": "[]",
        "metadata": json.dumps({"func_name": function} if function else {}),
    }
    task = LiveCodeBench(runner=runner)
    problem = task.problem(record, 1)
    assert problem is not None
    return asyncio.run(task.grade(problem, f"```python\n{source}\n```", Graders(judge=pool)))


SUM = [{"input": "3\n1 2 3\n", "output": "6\n"}, {"input": "2\n4 5", "output": "9"}]
PROGRAMS = [
    # name, source, strict judge, LiveCodeBench's runner
    ("input", "n = input()\nprint(sum(map(int, input().split())))", True, True),
    ("main", "def run():\n  input()\n  print(sum(map(int, input().split())))\nif __name__ == '__main__':\n  run()",
     True, True),
    ("no import needed", "input()\nprint(reduce(add, map(int, input().split())))", True, True),
    ("read all", "import sys\nn, *x = sys.stdin.read().split()\nprint(sum(map(int, x)))", True, True),
    ("wrong", "print(0)", False, False),
    ("crash", "print(6)\n1 / 0", False, False),
    ("silent exit", "input()\nprint(sum(map(int, input().split())))\nexit()", True, True),
    ("global", "t = 0\ndef f():\n    global t\n    t += sum(map(int, input().split()))\ninput()\nf()\nprint(t)",
     True, False),
    ("buffer", "import sys\nn, *x = sys.stdin.buffer.read().split()\nprint(sum(map(int, x)))", True, False),
    ("open(0)", "n, *x = open(0).read().split()\nprint(sum(map(int, x)))", True, False),
    ("os.read", "import os\nn, *x = os.read(0, 100).split()\nprint(sum(map(int, x)))", True, False),
    ("line ends kept", "import sys\nsys.stdin.readline()\nprint(sum(map(int, sys.stdin.readline()[:-1].split())))",
     None, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "strict", "compatible"), PROGRAMS, ids=[row[0] for row in PROGRAMS])
def test_programs(pool: JudgePool, name: str, source: str, strict: bool | None, compatible: bool) -> None:
    if strict is not None:
        assert (grade(pool, "judge", source, SUM).score == 1.0) == strict
    assert (grade(pool, "lcb-compat", source, SUM).score == 1.0) == compatible


def test_numbers_are_equal_as_decimals_in_compatibility_alone(pool: JudgePool) -> None:
    tests = [{"input": "", "output": "0.50 2\n"}]
    assert grade(pool, "lcb-compat", "print('0.5   2.0')", tests).score == 1.0
    assert grade(pool, "judge", "print('0.5   2.0')", tests).score == 0.0
    assert grade(pool, "lcb-compat", "print('0.5\\n2.0')", tests).score == 0.0


def test_functions(pool: JudgePool) -> None:
    tests = [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]
    method = "class Solution:\n    def add(self, xs: List[int], y: int) -> List[int]:\n        return {}"
    for runner in ("judge", "lcb-compat"):
        assert grade(pool, runner, method.format("[x + y for x in xs]"), tests, "add").score == 1.0
        assert grade(pool, runner, method.format("tuple(x + y for x in xs)"), tests, "add").score == 1.0
        assert grade(pool, runner, method.format("xs"), tests, "add").score == 0.0
    nested = [{"input": "1", "output": "[[1]]", "testtype": "functional"}]
    assert grade(pool, "judge", "def f(x):\n    return [(x,)]", nested, "f").score == 1.0
    assert grade(pool, "lcb-compat", "def f(x):\n    return [(x,)]", nested, "f").score == 0.0


def test_cheats_fail_in_both(pool: JudgePool) -> None:
    yes = "class Yes:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return Yes()"
    frames = (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in frame.f_locals.values():\n"
        "            if isinstance(value, list) and value and value[0] == 41:\n                return value\n"
        "        frame = frame.f_back\n    return 0"
    )
    tests = [{"input": "1", "output": "[41]", "testtype": "functional"}]
    for runner in ("judge", "lcb-compat"):
        assert grade(pool, runner, yes, tests, "f").score == 0.0
        assert grade(pool, runner, frames, tests, "f").score == 0.0
