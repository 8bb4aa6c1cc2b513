# ruff: noqa: E501  (programs as strings)
"""Correct programs of every habit are accepted, wrong ones get the verdict that fits; real sandboxes."""

import shutil
from collections.abc import Iterator

import pytest

from megatron_mimo.judge import AssertTest, CallTest, JudgeConfig, JudgePool, Limits, Solution, StdioTest, Verdict
from support.patience import patience

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]

DOUBLES = [StdioTest(stdin="3\n1\n2\n30\n", stdout="2\n4\n60\n"), StdioTest(stdin="1\n7\n", stdout="14\n")]

READERS = {
    "for line in stdin": "import sys\nnext(sys.stdin)\nfor line in sys.stdin:\n    print(2 * int(line))",
    "stdin.buffer": "import sys\nfor t in sys.stdin.buffer.read().split()[1:]:\n    sys.stdout.buffer.write(b'%d\\n' % (2 * int(t)))",
    "open(0)": "for t in open(0).read().split()[1:]:\n    print(2 * int(t))",
    "os.read": "import os\ndata = os.read(0, 10000).split()[1:]\nos.write(1, b''.join(b'%d\\n' % (2 * int(t)) for t in data))",
    "global at top level": "global n\nn = int(input())\nfor _ in range(n):\n    print(2 * int(input()))",
    "input": "for _ in range(int(input())):\n    print(int(input()) * 2)",
    "main guard": "def main():\n    for _ in range(int(input())):\n        print(int(input()) * 2)\nif __name__ == '__main__':\n    main()",
    "threads": (
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\n"
        "def deep(n):\n    return 0 if n == 0 else 1 + deep(n - 1)\n"
        "def main():\n    assert deep(20000) == 20000\n    for t in sys.stdin.read().split()[1:]:\n        print(2 * int(t))\n"
        "t = threading.Thread(target=main)\nt.start()"
    ),
    "recursion": (
        "import sys\nsys.setrecursionlimit(200000)\ndef deep(n):\n    return 0 if n == 0 else 1 + deep(n - 1)\n"
        "deep(50000)\nfor t in sys.stdin.read().split()[1:]:\n    print(2 * int(t))"
    ),
    "thread pool": (
        "from concurrent.futures import ThreadPoolExecutor\nvalues = open(0).read().split()[1:]\n"
        "with ThreadPoolExecutor(4) as pool:\n    print(*pool.map(lambda t: 2 * int(t), values), sep='\\n')"
    ),
    "asyncio": (
        "import asyncio, sys\nasync def main():\n    await asyncio.sleep(0)\n"
        "    for t in sys.stdin.read().split()[1:]:\n        print(2 * int(t))\nasyncio.run(main())"
    ),
    "sys.exit": "import sys\nfor t in sys.stdin.read().split()[1:]:\n    print(2 * int(t))\nsys.exit()",
    "exit": "for t in open(0).read().split()[1:]:\n    print(2 * int(t))\nexit()",
    "os._exit after flush": (
        "import os, sys\nfor t in open(0).read().split()[1:]:\n    print(2 * int(t))\nsys.stdout.flush()\nos._exit(0)"
    ),
    "atexit": (
        "import atexit, io, os, sys\nbuffer = io.BytesIO()\nsys.stdout = io.TextIOWrapper(buffer, write_through=True)\n"
        "atexit.register(lambda: os.write(1, buffer.getvalue()))\n"
        "for t in open(0).read().split()[1:]:\n    print(2 * int(t))"
    ),
    "unclosed file over 1": "out = open(1, 'w')\nfor t in open(0).read().split()[1:]:\n    out.write(f'{2 * int(t)}\\n')",
    "/dev/stdin": "for t in open('/dev/stdin').read().split()[1:]:\n    print(2 * int(t))",
    "dataclass and annotations": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Twice:\n    x: int\n"
        "    def value(self) -> int:\n        return 2 * self.x\n"
        "for t in open(0).read().split()[1:]:\n    print(Twice(int(t)).value())"
    ),
    "pickle of a class in __main__": (
        "import copy, pickle\nclass Box:\n    def __init__(self, x):\n        self.x = x\n"
        "for t in open(0).read().split()[1:]:\n    print(2 * pickle.loads(pickle.dumps(Box(int(t)))).x)"
    ),
    "temporary file": (
        "import tempfile\nfor t in open(0).read().split()[1:]:\n    with tempfile.TemporaryFile('w+') as file:\n"
        "        file.write(t)\n        file.seek(0)\n        print(2 * int(file.read()))"
    ),
    "non-ascii source": "# число\nfor t in open(0).read().split()[1:]:\n    print(2 * int(t))",
}

WRONG = {
    "wrong answer": ("print(1)", Verdict.WRONG_ANSWER),
    "no output": ("pass", Verdict.WRONG_ANSWER),
    "syntax": ("print(", Verdict.COMPILE_ERROR),
    "lone surrogate": ("print('\ud800')", Verdict.COMPILE_ERROR),
    "null byte": ("print(1)\0", Verdict.COMPILE_ERROR),
    "exception": ("print(2)\nraise ValueError", Verdict.RUNTIME_ERROR),
    "exit code": ("import sys\nsys.exit(3)", Verdict.RUNTIME_ERROR),
    "exit text": ("import sys\nsys.exit('no')", Verdict.RUNTIME_ERROR),
    "endless loop": ("while True:\n    pass", Verdict.TIME_LIMIT),
    "sleep": ("import time\ntime.sleep(100)", Verdict.TIME_LIMIT),
    "busy threads": (
        "import threading\ndef f():\n    while True: sum(range(100))\nfor _ in range(4): threading.Thread(target=f).start()",
        Verdict.TIME_LIMIT,
    ),
    "memory": ("x = bytearray(10**10)", Verdict.MEMORY_LIMIT),
    "memory by and by": ("x = []\nwhile True:\n    x.append(bytearray(1 << 20))", Verdict.MEMORY_LIMIT),
    "output": ("while True:\n    print('x' * 10000)", Verdict.OUTPUT_LIMIT),
    "error output": ("import sys\nwhile True:\n    print('x' * 10000, file=sys.stderr)", Verdict.OUTPUT_LIMIT),
    "killed by itself": ("import os\nos.kill(os.getpid(), 9)", Verdict.RUNTIME_ERROR),
}

CPP_TWICE = "#include <iostream>\nint main(){int n,x;std::cin>>n;while(n--){std::cin>>x;std::cout<<2*x<<'\\n';}}"
CPP_WRONG = {
    "syntax": ("int main({", Verdict.COMPILE_ERROR),
    "crash": ("int main(){volatile int*volatile p=0;*p=1;}", Verdict.RUNTIME_ERROR),
    "loop": ("int main(){for(volatile int i=0;;)i=i+1;}", Verdict.TIME_LIMIT),
    "memory": ("#include <vector>\nint main(){std::vector<char> v(3ull<<30,1);return v[5]-1;}", Verdict.MEMORY_LIMIT),
    "output": ('#include <cstdio>\nint main(){for(;;)puts("xxxxxxxxxxxxxxxxxxxxxxxx");}', Verdict.OUTPUT_LIMIT),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    with JudgePool(JudgeConfig(num_slots=2)) as pool:
        yield pool


QUICK = Limits(cpu_seconds=1.5, wall_seconds=patience(5), memory_bytes=256 << 20, output_bytes=1 << 20)


@pytest.mark.parametrize("name", READERS)
def test_correct_programs_pass(pool: JudgePool, name: str) -> None:
    result = pool.judge_now(Solution(source=READERS[name]), DOUBLES)
    assert result.verdict is Verdict.ACCEPTED, result


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_get_their_verdict(pool: JudgePool, name: str) -> None:
    source, verdict = WRONG[name]
    result = pool.judge_now(Solution(source=source), DOUBLES[:1], limits=QUICK)
    assert result.verdict is verdict, result


def test_cpp(pool: JudgePool) -> None:
    result = pool.judge_now(Solution(source=CPP_TWICE, language="cpp"), DOUBLES)
    assert result.verdict is Verdict.ACCEPTED, result
    deep = (
        "#include <cstdio>\nint deep(int n){volatile char pad[64];pad[0]=n;return n?1+deep(n-1)+0*pad[0]:0;}"
        'int main(){printf("%d",deep(500000));}'
    )
    result = pool.judge_now(Solution(source=deep, language="cpp"), [StdioTest(stdin="", stdout="500000")])
    assert result.verdict is Verdict.ACCEPTED, result
    threads = (
        "#include <thread>\n#include <cstdio>\n#include <atomic>\nint main(){std::atomic<int> n{0};"
        'std::thread a([&]{n+=1;}),b([&]{n+=2;});a.join();b.join();printf("%d",n.load());}'
    )
    result = pool.judge_now(Solution(source=threads, language="cpp"), [StdioTest(stdin="", stdout="3")])
    assert result.verdict is Verdict.ACCEPTED, result


@pytest.mark.parametrize("name", CPP_WRONG)
def test_wrong_cpp_programs_get_their_verdict(pool: JudgePool, name: str) -> None:
    source, verdict = CPP_WRONG[name]
    result = pool.judge_now(Solution(source=source, language="cpp"), DOUBLES[:1], limits=QUICK)
    assert result.verdict is verdict, result


def test_calls(pool: JudgePool) -> None:
    source = "class Solution:\n    def add(self, a, b):\n        print('noise')\n        return (a + b, [1.0])"
    tests = [
        CallTest(function="add", arguments=[1, 2], expected=[3, [1]]),
        CallTest(function="add", arguments=["x", "y"], expected=["xy", [1.0]]),
        CallTest(function="add", arguments=[1, 2], expected=[4, [1]]),
        CallTest(function="sub", arguments=[1, 2], expected=-1),
        CallTest(function="add", arguments=[1, 2], expected=[3.0001, [1]], float_tolerance=1e-3),
    ]
    result = pool.judge_now(Solution(source=source), tests)
    assert result.passed == [True, True, False, False, True]
    assert result.tests[3].verdict is Verdict.RUNTIME_ERROR
    numpy_like = (
        "class A:\n    def tolist(self): return [1, 2]\ndef f(): return A()\ndef g(): return {1}\ndef h(): yield 3"
    )
    tests = [CallTest(function=name, arguments=[], expected=e) for name, e in (("f", [1, 2]), ("g", [1]), ("h", [3]))]
    assert all(pool.judge_now(Solution(source=numpy_like), tests).passed)


ASSERT_SOURCE = """
import math
from collections import namedtuple, Counter
LIMIT = 5
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
    def total(self): return self.a + self.b
Point = namedtuple('Point', 'x y')
def longest(pairs): return max(p.b for p in pairs)
def swap(a, b=1): return (b, a)
def kinds(): return {1, 2}, frozenset({3}), b'x', 2 + 1j, None, True, {'k': (1,), 2: [3]}, float('inf')
def sort_it(items): items.sort()
def fails(x): raise KeyError(x)
def odd(n): return (i for i in range(n) if i % 2)
def count(text): return Counter(text)
def sum(a, b): return a + b
def big(): return 10 ** 5000
"""
ASSERTS = {
    "result": "assert swap(1, b=2) == (2, 1)",
    "kinds": (
        "a, b, c, d, e, f, g, h = kinds()\n"
        "assert a == {1, 2} and b == {3} and type(b) is frozenset and c == b'x' and d == 2 + 1j and e is None and f is True\n"
        "assert g == {'k': (1,), 2: [3]} and h == float('inf')"
    ),
    "class": "assert longest([Pair(1, 5), Pair(2, 9)]) == 9",
    "method and attribute": "p = Pair(1, 5)\nassert p.total() == 6 and p.a == 1",
    "attributes set by the test": "p = Pair(1, 5)\np.b = Pair(2, 3)\nassert p.b.total() == 5",
    "a type as argument": "assert swap(int) == (1, int)",
    "in place": "items = [3, 1, 2]\nsort_it(items)\nassert items == [1, 2, 3]",
    "exception": "try:\n    fails(1)\nexcept KeyError:\n    pass\nelse:\n    assert False",
    "generator": "assert list(odd(6)) == [1, 3, 5]",
    "module and value": "assert math.floor(2.5) == 2 and LIMIT == 5",
    "counter": "assert count('aab') == {'a': 2, 'b': 1}",
    "check": "def check(candidate):\n    assert candidate(1) == (1, 1)\ncheck(swap)",
    "big": "assert big() == 10 ** 5000",
    "exit": "import sys\nassert swap(1) == (1, 1)\nsys.exit(0)",
}


@pytest.mark.parametrize("name", ASSERTS)
def test_asserts(pool: JudgePool, name: str) -> None:
    result = pool.judge_now(Solution(source=ASSERT_SOURCE), [AssertTest(program=ASSERTS[name])])
    assert result.verdict is Verdict.ACCEPTED, result


def test_asserts_that_fail(pool: JudgePool) -> None:
    programs = ["assert swap(1, 2) == (1, 2)", "assert absent(1)", "fails(1)", "assert (", "import sys; sys.exit(1)"]
    result = pool.judge_now(Solution(source=ASSERT_SOURCE), [AssertTest(program=p) for p in programs])
    assert [test.verdict for test in result.tests] == [Verdict.WRONG_ANSWER] + [Verdict.RUNTIME_ERROR] * 4


def test_builtins_come_from_the_solution_only_when_asked_for(pool: JudgePool) -> None:
    solution = Solution(source=ASSERT_SOURCE)
    asked = AssertTest(program="assert sum(10, 15) == 25", entry_points=["sum"])
    unasked = AssertTest(program="assert sum([1, 2]) == 3")
    assert pool.judge_now(solution, [asked, unasked]).passed == [True, True]


def test_prelude_wins_over_the_solution(pool: JudgePool) -> None:
    test = AssertTest(prelude="def helper(x):\n    return x + 1\n", program="assert helper(answer(1)) == 3")
    cheat = "def helper(x): return 3\ndef answer(x): return "
    assert pool.judge_now(Solution(source=cheat + "0"), [test]).passed == [False]
    assert pool.judge_now(Solution(source=cheat + "2"), [test]).passed == [True]


def test_levels_and_early_stop(pool: JudgePool) -> None:
    source = "print(int(input()) % 3)"
    tests = [StdioTest(stdin=str(n), stdout=str(n)) for n in (1, 4, 2, 5)]
    full = pool.judge_now(Solution(source=source), tests)
    assert [t.verdict.value for t in full.tests] == ["accepted", "wrong_answer", "accepted", "wrong_answer"]
    early = pool.judge_now(Solution(source=source), tests, levels=[0, 2, 0, 1], stop_at_first_failure=True)
    assert [t.verdict.value for t in early.tests] == ["accepted", "skipped", "accepted", "wrong_answer"]
    assert early.verdict is Verdict.WRONG_ANSWER


def test_total_time_bounds_many_slow_tests(pool: JudgePool) -> None:
    limits = Limits(cpu_seconds=0.3, wall_seconds=2, total_wall_seconds=0.5)
    tests = [StdioTest(stdin="", stdout="")] * 20
    result = pool.judge_now(Solution(source="while True: pass"), tests, limits=limits)
    assert {t.verdict for t in result.tests} == {Verdict.TIME_LIMIT}
    assert sum(t.cpu_seconds for t in result.tests) < 3


def test_measurements(pool: JudgePool) -> None:
    source = (
        "import time\nx = bytearray(100 << 20)\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )
    measured = pool.judge_now(Solution(source=source), [StdioTest(stdin="", stdout="")]).tests[0]
    assert measured.verdict is Verdict.ACCEPTED
    assert 0.3 <= measured.cpu_seconds < 0.6
    assert 100 << 20 <= measured.memory_bytes < 200 << 20
