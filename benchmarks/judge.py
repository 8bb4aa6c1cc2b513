"""Tests judged a second and core, beside a bare subprocess a test and a bubblewrap a test, in one run.

    python benchmarks/judge.py                          # 10, 30 and 100 tests per solution
    python benchmarks/judge.py --tests 30 --solutions 20 --markdown

Tiny programs, so that what is measured is the judge. Seconds are processor seconds of this process and of all that it
started (user and system), not wall clock: a core's throughput whatever else the machine does. All start Python without
`site`. The peers only run and compare: one holds no hostile program, the other limits and measures nothing.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.judge import JudgeConfig, JudgePool, Solution, StdioTest, Verdict, bubblewrap

PYTHON = "import sys\nfor line in sys.stdin:\n    print(2 * int(line))\n"
CPP = '#include <cstdio>\nint main(){int x;while(scanf("%d",&x)==1)printf("%d\\n",2*x);}\n'
TEST = StdioTest(stdin="3\n4\n", stdout="6\n8\n")


def processor_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def tests_a_second(run: Callable[[], None], num_tests: int) -> float:
    """Tests a processor second of one call of `run`."""
    start = processor_seconds()
    run()
    return num_tests / (processor_seconds() - start)


def judged(pool: JudgePool, solution: Solution, num_tests: int, num_solutions: int) -> None:
    for _ in range(num_solutions):
        result = pool.judge_now(solution, [TEST] * num_tests)
        assert result.verdict is Verdict.ACCEPTED, result


def executed(command: list[str], num_tests: int) -> None:
    for _ in range(num_tests):
        done = subprocess.run(command, input=TEST.stdin.encode(), capture_output=True, check=True)
        assert done.stdout.split() == TEST.stdout.encode().split()


def bubblewrapped(folder: Path) -> list[str]:
    """A sandbox a test with the same mounts; no seccomp, limits or uid."""
    # --as-pid-1: bubblewrap's own init would not pass the program's processor time on.
    words = ["bwrap", "--unshare-all", "--as-pid-1", "--die-with-parent", "--new-session"]
    for path in ("/lib", "/lib64", "/usr"):
        words += bubblewrap.mirror(path)
    for path in (sys.base_prefix, str(folder)):
        words += ["--ro-bind", path, path]
    return words


def measure(pool: JudgePool, numbers: list[int], num_solutions: int, folder: Path) -> list[tuple[str, float, float]]:
    """Rows (what, Python tests per second, C++ tests per second)."""
    python, cpp = Solution(source=PYTHON), Solution(source=CPP, language="cpp")
    (folder / "main.py").write_text(PYTHON)
    (folder / "main.cpp").write_text(CPP)
    compiler = [pool.config.compiler, *pool.config.compiler_arguments]
    subprocess.run([*compiler, str(folder / "main.cpp"), "-o", str(folder / "main")], check=True)
    rows = []
    for number in numbers:
        pair = []
        for solution in (python, cpp):
            judged(pool, solution, 1, 1)
            count = number * num_solutions
            pair.append(tests_a_second(lambda s=solution, n=number: judged(pool, s, n, num_solutions), count))
        rows.append((f"this judge, {number} tests per solution", *pair))
    interpreter = str(Path(sys.executable).resolve())
    commands = {"bare subprocess": [], "bubblewrap a test": bubblewrapped(folder)}
    for name, prefix in commands.items():
        both = ([interpreter, "-S", "-B", str(folder / "main.py")], [str(folder / "main")])
        pair = [tests_a_second(lambda c=[*prefix, *command]: executed(c, 50), 50) for command in both]
        rows.append((name, *pair))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tests", type=int, nargs="*", default=[10, 30, 100], help="tests per solution")
    parser.add_argument("--solutions", type=int, default=10, help="solutions judged for every figure (default 10)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    try:
        with JudgePool(JudgeConfig(num_slots=1)) as pool, tempfile.TemporaryDirectory() as folder:
            rows = measure(pool, options.tests, options.solutions, Path(folder))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.markdown:
        print("| tests per second and core | Python | C++ |\n|---|---|---|")
    for name, python, cpp in rows:
        print(f"| {name} | {python:.0f} | {cpp:.0f} |" if options.markdown else f"{name:38}{python:8.0f}{cpp:8.0f}")
    print("C++ without compiling (a solution is compiled once).", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
