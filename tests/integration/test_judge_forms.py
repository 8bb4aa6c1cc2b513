# ruff: noqa: E501  (programs as strings)
"""Forms of programs and tests that graders take as given, and attempts to pass without solving; real sandboxes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_mimo.judge import AssertTest, CallTest, JudgeConfig, JudgePool, Limits, Solution, StdioTest, Test, Verdict
from megatron_mimo.judge.preparation import contest_test, mbpp_tests, solution_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    with JudgePool(JudgeConfig(num_slots=1)) as pool:
        yield pool


FLUSHED_AT_EXIT = {
    "buffer flushed by the interpreter": (
        "import os, sys\nfrom io import BytesIO, IOBase\nclass Out(IOBase):\n    def __init__(self, fd):\n        self.fd, self.parts = fd, BytesIO()\n"
        "    def write(self, text):\n        self.parts.write(text.encode())\n    def flush(self):\n        os.write(self.fd, self.parts.getvalue())\n        self.parts = BytesIO()\n"
        "sys.stdout = Out(1)\nprint(int(input()) + 1)"
    ),
    "a stream without closed": (
        "import sys\nclass Lines:\n    def __init__(self):\n        self.kept = []\n    def write(self, text):\n        self.kept.append(text)\n"
        "    def flush(self):\n        sys.__stdout__.write(''.join(self.kept))\n        self.kept.clear()\nsys.stdout = Lines()\nprint(int(input()) + 1)"
    ),
    "written by __del__": "class Last:\n    def __del__(self):\n        print(self.value)\nlast = Last()\nlast.value = int(input()) + 1",
}


@pytest.mark.parametrize("name", FLUSHED_AT_EXIT)
def test_output_at_the_end_is_pythons(pool: JudgePool, name: str) -> None:
    """The same programs under the interpreter itself print the same."""
    source = FLUSHED_AT_EXIT[name]
    alone = subprocess.run([sys.executable, "-c", source], input=b"41", capture_output=True, check=True)
    assert alone.stdout.split() == [b"42"]
    result = pool.judge_now(Solution(source=source), [StdioTest(stdin="41", stdout="42")])
    assert result.verdict is Verdict.ACCEPTED, result


CONTEST = {
    "typing": (
        "class Solution:\n    def f(self, xs: List[int]) -> Optional[int]:\n        return max(xs, default=None)",
        [[3, 1]],
        3,
    ),
    "names": (
        "def f(x):\n    return [gcd(12, x), Counter('aab')['a'], inf > x, bisect_left([1, 3], x), sqrt(16), next(count(5))]",
        [8],
        [4, 2, True, 2, 4.0, 5],
    ),
    "modules": (
        "def f(x):\n    return math.comb(4, 2) + collections.deque([x])[0] + heapq.nsmallest(1, [x])[0]",
        [1],
        8,
    ),
    "future": ("from __future__ import annotations\ndef f(x: List[int]) -> Any:\n    return x", [[1]], [1]),
    "own name wins": ("def sqrt(x):\n    return 'mine'\ndef f(x):\n    return sqrt(x)", [4], "mine"),
    "builtins stay": ("def f(x):\n    return pow(x, 2, 5) + sum([1, 2])", [3], 7),
    "list": (
        "class Solution:\n    def f(self, head: Optional[ListNode]) -> Optional[ListNode]:\n        last = None\n        while head:\n            head.next, last, head = last, head, head.next\n        return last",
        [[1, 2, 3]],
        [3, 2, 1],
    ),
    "empty list": (
        "class Solution:\n    def f(self, head: Optional[ListNode]) -> Optional[ListNode]:\n        return head",
        [[]],
        [],
    ),
    "lists": (
        "class Solution:\n    def f(self, lists: List[Optional[ListNode]]) -> int:\n        return sum(one.val for one in lists)",
        [[[1, 2], [5]]],
        6,
    ),
    "tree": (
        "# class TreeNode:\nclass Solution:\n    def f(self, root: Optional[TreeNode]) -> Optional[TreeNode]:\n        if root:\n            root.left, root.right = self.f(root.right), self.f(root.left)\n        return root",
        [[4, 2, None, 1]],
        [4, None, 2, None, 1],
    ),
    "own node": (
        "class ListNode:\n    def __init__(self, x):\n        self.val = x\n        self.next = None\nclass Solution:\n    def f(self, head: ListNode) -> int:\n        return head.next.val",
        [[1, 7]],
        7,
    ),
}


@pytest.mark.parametrize("name", CONTEST)
def test_what_contest_graders_take_as_given(pool: JudgePool, name: str) -> None:
    source, arguments, expected = CONTEST[name]
    tests: list[Test] = [CallTest(function="f", arguments=arguments, expected=expected)]
    result = pool.judge_now(solution_for(source, tests), tests)
    assert result.verdict is Verdict.ACCEPTED, result


def test_a_name_of_the_usual_imports_is_no_free_pass(pool: JudgePool) -> None:
    tests = [contest_test("[1, 2]", "3", "total")]
    for source, verdict in (
        ("def total(xs: List[int]): return sum(xs)", Verdict.ACCEPTED),
        ("def total(xs: Lost[int]): return 3", Verdict.RUNTIME_ERROR),
    ):
        assert pool.judge_now(solution_for(source, tests), tests).verdict is verdict


def test_functions_named_like_builtins(pool: JudgePool) -> None:
    record = {"test_list": ["assert max(2, 3) == 5"], "code": "def max(a, b):\n    return a + b"}
    tests = mbpp_tests(record)
    assert pool.judge_now(solution_for(record["code"], tests), tests).verdict is Verdict.ACCEPTED
    assert pool.judge_now(solution_for("def max(a, b): return a", tests), tests).verdict is Verdict.WRONG_ANSWER


CHECKER = "def check(stdin, stdout, expected):\n    a, b = map(int, stdout.split())\n    return a + b == int(stdin)\n"


@pytest.mark.parametrize(
    ("printed", "checker", "verdict"),
    [
        ("1, n - 1", CHECKER, Verdict.ACCEPTED),
        ("1, n", CHECKER, Verdict.WRONG_ANSWER),
        ("'no number'", CHECKER, Verdict.WRONG_ANSWER),
        ("1, n - 1", "def check(:", Verdict.JUDGE_FAULT),
        ("1, n - 1", "def check(*_):\n    while True: pass", Verdict.JUDGE_FAULT),
    ],
)
def test_checkers(pool: JudgePool, printed: str, checker: str, verdict: Verdict) -> None:
    test = StdioTest(stdin="5", stdout="2 3", checker=checker)
    solution = Solution(source=f"n = int(input())\nprint({printed})")
    assert pool.judge_now(solution, [test], limits=Limits(cpu_seconds=1)).verdict is verdict


def test_decimals(pool: JudgePool) -> None:
    solution = Solution(source="print('1.50 2')")
    assert (
        pool.judge_now(solution, [StdioTest(stdin="", stdout="1.5 2.0", compare="decimals")]).verdict
        is Verdict.ACCEPTED
    )
    assert pool.judge_now(solution, [StdioTest(stdin="", stdout="1.5 2.0")]).verdict is Verdict.WRONG_ANSWER


CASES = "import unittest\nclass T(unittest.TestCase):\n    def test_one(self):\n        self.assertEqual(f(1), 2)\n"
SUITES = {
    "unittest.main": CASES + "unittest.main()",
    "main(exit=False)": CASES + "unittest.main(exit=False)",
    "guarded": CASES + "if __name__ == '__main__':\n    unittest.main()",
    "no main": CASES,
    "runner": CASES + "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))",
    "pytest function": "def test_one():\n    assert f(1) == 2\n",
    "pytest class": "class TestF:\n    def setup_method(self):\n        self.x = 1\n    def test_one(self):\n        assert f(self.x) == 2\n",
    "check": "def check(g):\n    assert g(1) == 2\ncheck(f)",
}


@pytest.mark.parametrize("name", SUITES)
def test_suites_run(pool: JudgePool, name: str) -> None:
    test = AssertTest(program=SUITES[name])
    assert pool.judge_now(Solution(source="def f(x): return x + 1"), [test]).verdict is Verdict.ACCEPTED
    assert pool.judge_now(Solution(source="def f(x): return 7"), [test]).verdict is Verdict.WRONG_ANSWER
    assert pool.judge_now(Solution(source="def f(x): raise OSError"), [test]).verdict is Verdict.RUNTIME_ERROR


CHEATS = {
    "no test at all": ("def f(x): return 2", "import unittest\nunittest.main()"),
    "StopIteration": ("def f(x): raise StopIteration", "for value in map(f, [1, 2]):\n    assert value == 3"),
    "StopIteration in next": (
        "def f(x): raise StopIteration",
        "values = iter([1])\nassert [f(v) for v in values] == [1]",
    ),
    "a class as math": (
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef f(x): return 3",
        "assert math.isclose(f(1), 2.5)",
    ),
    "an object as math": (
        "import types\nmath = types.SimpleNamespace(isclose=lambda *a, **k: True)\ndef f(x): return 3",
        "assert math.isclose(f(1), 2.5)",
    ),
    "another module as math": (
        "import cmath as math\ncmath = math\ndef f(x): return 3",
        "assert math.floor(2.5) == 2\nassert f(1) == 2",
    ),
    "own unittest": (
        "class unittest:\n    TestCase = object\n    main = staticmethod(lambda: None)\ndef f(x): return 7",
        SUITES["unittest.main"],
    ),
    "equal to everything": (
        "class E:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return E()",
        "assert f(1) == 2",
    ),
    "instance of everything": (
        "class M(type):\n    def __instancecheck__(c, o): return True\ndef f(x): return 1",
        "assert isinstance(f(1), str)",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_nothing_passes_unsolved(pool: JudgePool, name: str) -> None:
    source, program = CHEATS[name]
    result = pool.judge_now(Solution(source=source), [AssertTest(program=program)])
    assert result.verdict in (Verdict.WRONG_ANSWER, Verdict.RUNTIME_ERROR), result


VALUES = {
    "Decimal": ("from decimal import Decimal\ndef f(): return Decimal('1.10')", "from decimal import Decimal\nassert f() == Decimal('1.1') and isinstance(f(), Decimal)"),
    "Fraction": ("from fractions import Fraction\ndef f(x): return x / 3", "from fractions import Fraction\nassert f(Fraction(1)) == Fraction(1, 3)"),
    "dates": ("from datetime import timedelta\ndef f(d): return d + timedelta(days=1)", "import datetime\nassert f(datetime.date(2020, 2, 28)) == datetime.date(2020, 2, 29)\nassert f(datetime.datetime(2020, 1, 2, 3)) == datetime.datetime(2020, 1, 3, 3)"),
    "containers": ("from collections import *\ndef f(x): return deque(x), Counter(x), range(2), OrderedDict(a=1), bytearray(b'b')", "from collections import deque, Counter\nassert f('aab') == (deque('aab'), Counter('aab'), range(2), {'a': 1}, b'b')"),
    "views and generators": ("def f():\n    yield from {1: 2}.items()", "assert list(f()) == [(1, 2)]"),
    "functions of the test": ("def f(g, xs): return sorted(map(g, xs), key=g)", "assert f(lambda x: -x, [1, 2]) == [-1, -2]"),
    "functions of the solution": ("def f(*gs):\n    def h(x):\n        for g in gs: x = g(x)\n        return x\n    return h", "assert f(abs, lambda x: x + 1)(-3) == 4"),
    "errors in a test's function": ("def f(g):\n    try: g()\n    except KeyError: return 'caught'", "def g(): raise KeyError\nassert f(g) == 'caught'"),
    "objects": (
        "class C:\n    limit = 5\n    def __init__(self): self.items = [1, 2]\n    @classmethod\n    def two(c): return 2\n    def __lt__(s, o): return True\n    def __contains__(s, x): return x in s.items\n"
        "    def __iter__(s): return iter(s.items)\n    def __len__(s): return 2\n    def __getitem__(s, i): return s.items[i]\n    def __enter__(s): return s\n    def __exit__(s, *a): s.items = []",
        "c = C()\nassert C.limit == 5 and C.two() == 2 and isinstance(c, C) and not isinstance(3, C) and c < C() and 1 in c and 9 not in c\nassert list(c) == [1, 2] and len(c) == 2 and c[0] == 1\nwith c as d:\n    assert d.items == [1, 2]\nassert c.items == []",
    ),
    "async": ("async def f(x): return x + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"),
    "exceptions": ("def f(): raise ValueError('bad')", "try:\n    f()\n    raise SystemExit(3)\nexcept ValueError as error:\n    assert str(error) == 'bad'"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_that_asserts_compare(pool: JudgePool, name: str) -> None:
    source, program = VALUES[name]
    result = pool.judge_now(Solution(source=source), [AssertTest(program=program)])
    assert result.verdict is Verdict.ACCEPTED, result


def test_cpp20(pool: JudgePool) -> None:
    source = (
        "#include <concepts>\n#include <iostream>\n#include <numbers>\n#include <ranges>\n#include <vector>\n"
        "template <std::integral T> T twice(T x) { return 2 * x; }\n"
        "int main() { std::vector<int> v{1, 2, 3}; int sum = 0;\n"
        "for (int x : v | std::views::filter([](int x) { return x != 2; })) sum += twice(x);\n"
        "std::cout << sum << ' ' << int(std::numbers::pi); }"
    )
    result = pool.judge_now(Solution(source=source, language="cpp"), [StdioTest(stdin="", stdout="8 3")])
    assert result.verdict is Verdict.ACCEPTED, result


def test_packages_that_are_allowed() -> None:
    import sortedcontainers

    folder = str(Path(sortedcontainers.__file__).parents[1])
    source = "from sortedcontainers import SortedList\nprint(*SortedList([2, 1]))"
    with JudgePool(JudgeConfig(num_slots=1, python_packages=(folder,))) as pool:
        assert pool.judge_now(Solution(source=source), [StdioTest(stdin="", stdout="1 2")]).verdict is Verdict.ACCEPTED


WORK = "total = 0\nfor i in range(int(input())):\n    total += i\nprint('done')"


def test_processor_time_decides_and_not_the_clock(pool: JudgePool) -> None:
    """A program that shares one core with busy processes takes far longer than wall_seconds and is accepted; one that
    waits for nothing is stopped after them; one that naps in a loop is a time limit as well."""
    core = min(os.sched_getaffinity(0))
    script = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(8)]
    for hog in hogs:
        assert hog.stdout is not None
        hog.stdout.readline()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        with JudgePool(JudgeConfig(num_slots=1)) as crowded:
            limits = Limits(cpu_seconds=20, wall_seconds=1)
            result = crowded.judge_now(
                Solution(source=WORK), [StdioTest(stdin="16000000", stdout="done")], limits=limits
            )
    finally:
        os.sched_setaffinity(0, before)
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert result.verdict is Verdict.ACCEPTED, result
    assert result.tests[0].wall_seconds > limits.wall_seconds
    sleeping = Solution(source="import time\ntime.sleep(60)")
    result = pool.judge_now(sleeping, [StdioTest(stdin="", stdout="")], limits=Limits(cpu_seconds=5, wall_seconds=1))
    assert result.verdict is Verdict.TIME_LIMIT
    assert result.tests[0].wall_seconds < 30


def test_starvation_is_a_fault_and_no_verdict(pool: JudgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the supervisor reports as starved is tried again, then a judge_fault, which has no score."""
    from megatron_mimo.judge import runner as module
    from megatron_mimo.judge.sandbox import Sandbox, SandboxOutcome

    real, asked = Sandbox.run, []

    def starved(self: Sandbox, do: str, message: dict, fds: list[int]) -> SandboxOutcome:
        outcome = real(self, do, message, fds)
        asked.append(do)
        return outcome if do == "load" else SandboxOutcome(9, 0.6, 200.0, 0, module.REASON_STALLED, False)

    monkeypatch.setattr(Sandbox, "run", starved)
    result = pool.judge_now(Solution(source="print(1)"), [StdioTest(stdin="", stdout="1")])
    assert result.verdict is Verdict.JUDGE_FAULT
    assert "overloaded" in result.tests[0].message
    assert asked.count("test") == pool.config.max_attempts
