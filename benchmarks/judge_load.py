"""Does a busy machine change a verdict? The same programs, judged as the machine is and beside many busy processes.

    python benchmarks/judge_load.py                     # 200 programs, twice idle and twice at load 60: about 3 minutes

The load is made here (processes that count) and ended here. Programs are of every verdict: right ones, wrong answers,
exceptions, syntax errors, endless loops, sleepers, too much memory or output, Python and C++. Those that are right use
a quarter of their processor time at most: what is near to a limit may fall on either side of it anywhere.
Exit code 1 where a verdict changed. A `judge_fault` is no verdict; it is counted apart.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from megatron_mimo.config import UserError
from megatron_mimo.judge import (
    AssertTest,
    CallTest,
    JudgeConfig,
    JudgePool,
    JudgeRequest,
    Limits,
    Solution,
    StdioTest,
    Verdict,
)
from megatron_mimo.judge.request import Test

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=8.0, memory_bytes=256 << 20, output_bytes=1 << 20)
BUSY = "while True: pass"
LONGEST_LOAD_SECONDS = 600
"""A busy process ends by itself after this, should nobody end it."""


@dataclass(frozen=True)
class Kind:
    """Programs that differ in a number alone. `{n}` in sources and tests is that number."""

    name: str
    count: int
    verdict: Verdict
    source: str
    test: Test
    language: str = "python"


ECHO = StdioTest(stdin="{n} 5", stdout="{m}")
SUM = "a, b = map(int, input().split())\n"
ADDS = "def f(x):\n    return x + 5"
KINDS = [
    Kind("sum", 50, Verdict.ACCEPTED, f"{SUM}print(a + b)", ECHO),
    Kind("sum, all of stdin", 20, Verdict.ACCEPTED, "import sys\nprint(sum(map(int, sys.stdin.read().split())))", ECHO),
    Kind("difference", 25, Verdict.WRONG_ANSWER, f"{SUM}print(a - b)", ECHO),
    Kind("exception", 20, Verdict.RUNTIME_ERROR, f"{SUM}print((a + b) // 0)", ECHO),
    Kind("exit code", 5, Verdict.RUNTIME_ERROR, f"import sys\n{SUM}print(a + b)\nsys.exit({{n}} % 99 + 1)", ECHO),
    Kind("syntax", 10, Verdict.COMPILE_ERROR, "print({n}", ECHO),
    Kind("function", 15, Verdict.ACCEPTED, ADDS, CallTest(function="f", arguments=[0], expected=5)),
    Kind("wrong function", 5, Verdict.WRONG_ANSWER, "f = abs", CallTest(function="f", arguments=[-1], expected=-1)),
    Kind("assert", 10, Verdict.ACCEPTED, ADDS, AssertTest(program="assert f({n}) == {m}")),
    Kind("failing assert", 5, Verdict.WRONG_ANSWER, "f = abs", AssertTest(program="assert f({n}) == {m}")),
    Kind("hungry", 8, Verdict.ACCEPTED, f"{SUM}for _ in range(3_000_000): pass\nprint(a + b)", ECHO),
    Kind("large list", 3, Verdict.ACCEPTED, f"{SUM}x = [0] * 20_000_000\nprint(a + b)", ECHO),
    Kind("endless loop", 4, Verdict.TIME_LIMIT, "n = {n}\nwhile True:\n    n += 1", ECHO),
    Kind("sleeper", 3, Verdict.TIME_LIMIT, "import time\ntime.sleep(1000 + {n})", ECHO),
    Kind("memory", 3, Verdict.MEMORY_LIMIT, "x = bytearray(10**10 + {n})", ECHO),
    Kind("output", 3, Verdict.OUTPUT_LIMIT, "while True:\n    print('{n}' * 9999)", ECHO),
    Kind(
        "C++ sum", 6, Verdict.ACCEPTED,
        '#include <cstdio>\nint main(){{int a,b;scanf("%d %d",&a,&b);printf("%d",a+b);/*{n}*/}}', ECHO, "cpp",
    ),
    Kind("C++ nonsense", 3, Verdict.COMPILE_ERROR, "int main({{/*{n}*/", ECHO, "cpp"),
    Kind("C++ loop", 2, Verdict.TIME_LIMIT, "int main(){{for(volatile int i={n};;)i=i+1;}}", ECHO, "cpp"),
]  # fmt: skip


def requests() -> Iterator[tuple[str, Verdict, JudgeRequest]]:
    """(name, verdict that is right, request)."""
    for kind in KINDS:
        for number in range(100, 100 + kind.count):
            values = {"n": number, "m": number + 5}
            # Sources without a number in them are no templates; those of C++ double their braces.
            source = kind.source.format(**values) if "{n}" in kind.source else kind.source
            solution = Solution(source=source, language="cpp" if kind.language == "cpp" else "python")
            request = JudgeRequest(solution=solution, tests=[filled(kind.test, values)], limits=LIMITS)
            yield f"{kind.name} {number}", kind.verdict, request


def filled(test: Test, values: dict[str, int]) -> Test:
    match test:
        case StdioTest():
            return StdioTest(stdin=test.stdin.format(**values), stdout=test.stdout.format(**values))
        case AssertTest():
            return AssertTest(program=test.program.format(**values))
        case CallTest():
            return test


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that always want the processor, ended at the end."""
    limit = f"import signal; signal.alarm({LONGEST_LOAD_SECONDS})\n{BUSY}"
    busy = [subprocess.Popen([sys.executable, "-S", "-c", limit]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


def judge_all(pool: JudgePool, what: str) -> dict[str, Verdict]:
    """Program -> verdict."""
    started = time.monotonic()
    futures = {name: pool.submit(request) for name, _, request in requests()}
    verdicts = {name: future.result().verdict for name, future in futures.items()}
    seconds, average = time.monotonic() - started, os.getloadavg()[0]
    counts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(Counter(verdicts.values()).items()))
    print(f"{what}: {len(verdicts)} programs in {seconds:.0f} s, load average {average:.0f}: {counts}", flush=True)
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=int, default=60, help="busy processes (default 60)")
    parser.add_argument("--slots", type=int, default=16, help="programs judged at a time (default 16)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    try:
        with JudgePool(JudgeConfig(num_slots=options.slots)) as pool:
            rounds = range(1, options.rounds + 1)
            found = {
                f"without load, round {number}": judge_all(pool, f"without load, round {number}") for number in rounds
            }
            with load(options.load):
                for number in rounds:
                    name = f"at load {options.load}, round {number}"
                    found[name] = judge_all(pool, name)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return compare(found)


def compare(found: dict[str, dict[str, Verdict]]) -> int:
    """Print what changed against the right verdict; the exit code."""
    changed = faults = 0
    for name, right, _ in requests():
        for when, verdicts in found.items():
            faults += verdicts[name] is Verdict.JUDGE_FAULT
            if verdicts[name] not in (right, Verdict.JUDGE_FAULT):
                changed += 1
                print(f"{name}, {when}: {verdicts[name]} in place of {right}")
    print(f"verdicts that are not the program's own: {changed}; judge faults: {faults}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
