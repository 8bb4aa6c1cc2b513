"""What the judge is asked: a solution, its tests, limits. The same records travel over HTTP as JSON (msgspec)."""

from typing import Any, Literal

import msgspec

from megatron_mimo.config import ConfigError


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """A program written by a model. Nothing in it is trusted."""

    source: str
    language: Literal["python", "cpp"] = "python"
    prelude: Literal["none", "usual"] = "none"
    """`usual`: names that contest graders import first (judge/prelude.py), under the solution's own."""


class StdioTest(msgspec.Struct, frozen=True, kw_only=True, tag="stdio"):
    """Run the program on `stdin`; its standard output must equal `stdout` (compare.py)."""

    stdin: str
    stdout: str
    compare: Literal["tokens", "lines", "exact", "decimals"] = "tokens"
    float_tolerance: float | None = None
    """Absolute or relative tolerance for numbers with a point or exponent on a side; None: text equality."""
    checker: str = ""
    """A trusted Python program that decides instead of `compare`: it defines `check(stdin, stdout, expected)` and
    returns whether the output is right. It runs in its own sandbox, after the solution."""


class CallTest(msgspec.Struct, frozen=True, kw_only=True, tag="call"):
    """Call `function` (or the method of class `Solution`) with `arguments`; its result as JSON must be `expected`.

    Parameters that the solution annotates with `ListNode` or `TreeNode` get one, made of a list (a tree's by levels,
    with null for a missing child); such results are lists again.
    """

    function: str
    arguments: list[Any]
    expected: Any
    float_tolerance: float | None = None


class AssertTest(msgspec.Struct, frozen=True, kw_only=True, tag="assert"):
    """Run `program` (asserts) against the solution's functions. It runs in another process than the solution."""

    program: str
    prelude: str = ""
    """Trusted helper code of the problem (HumanEval's prompt); it wins over the solution's names."""
    entry_points: list[str] = msgspec.field(default_factory=list)
    """Names taken from the solution even though they shadow builtins (MBPP has a problem `sum`)."""


Test = StdioTest | CallTest | AssertTest


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one test run; the compiler has its own."""

    cpu_seconds: float = 6.0
    """Processor time over all threads. The verdict `time_limit` means this, or `wall_seconds` of waiting."""
    wall_seconds: float = 20.0
    """Clock time of a program that waits: it sleeps, or reads what never comes (`time_limit`). A program that wants the
    processor and does not get it has WALL_PER_CPU_SECOND (inside/supervisor.py) times cpu_seconds more; then it is a
    `judge_fault`, no verdict."""
    memory_bytes: int = 1 << 30
    """Peak resident memory; the address space ends 512 MiB above it."""
    stack_bytes: int = 128 << 20
    output_bytes: int = 16 << 20
    """Largest file a program may write, standard output included."""
    scratch_bytes: int = 16 << 20
    """Size of its private /tmp; 0: no writable directory at all."""
    max_threads: int = 64
    may_fork: bool = False
    """Processes besides threads. Off: one process, so that memory_bytes bounds the whole program. On: wall_seconds is
    the clock's, whether the program waits or not."""
    compile_cpu_seconds: float = 30.0
    compile_memory_bytes: int = 2 << 30
    total_wall_seconds: float = 600.0
    """Processor time of all tests of a solution together; what is left over then has the verdict `time_limit`."""


class JudgeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A solution and the tests it must pass."""

    solution: Solution
    tests: list[Test]
    limits: Limits = Limits()
    levels: list[int] | None = None
    """Difficulty level of every test, 0 the easiest: easier tests run first. None: in the order given."""
    stop_at_first_failure: bool = False
    """Later tests are `skipped`. With `levels` it changes no strict reward (reward/code_difficulty.py)."""

    def check(self) -> None:
        """Raise ConfigError for what cannot be judged."""
        if not self.tests:
            raise ConfigError("tests", [], "a solution needs at least one test")
        if self.levels is not None and len(self.levels) != len(self.tests):
            raise ConfigError("levels", len(self.levels), f"give one level a test, {len(self.tests)}")
        if self.solution.language == "cpp" and any(not isinstance(test, StdioTest) for test in self.tests):
            raise ConfigError("tests", "call or assert", "C++ programs are judged by stdin/stdout tests alone")
        for name in ("cpu_seconds", "wall_seconds", "memory_bytes", "output_bytes", "stack_bytes", "max_threads"):
            if getattr(self.limits, name) <= 0:
                raise ConfigError(f"limits.{name}", getattr(self.limits, name), "must be positive")

    def order(self) -> list[int]:
        """Indices of the tests in the order they run."""
        indices = range(len(self.tests))
        return sorted(indices, key=self.levels.__getitem__) if self.levels is not None else list(indices)
