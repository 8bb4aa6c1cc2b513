"""What the judge answers."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """Outcome of one test, or of a solution over all its tests."""

    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    RUNTIME_ERROR = "runtime_error"
    COMPILE_ERROR = "compile_error"
    OUTPUT_LIMIT = "output_limit"
    JUDGE_FAULT = "judge_fault"
    """The judge failed, not the solution: judge again or drop the sample, never score it."""
    SKIPPED = "skipped"
    """Not run, because the request asked to stop at the first failure."""


class TestResult(msgspec.Struct, kw_only=True):
    """One test. Resource use is measured by the sandbox's supervisor, never by the program."""

    verdict: Verdict
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_bytes: int = 0
    message: str = ""
    """End of standard error or of the compiler's messages; written by the solution, so good for reading alone."""

    __test__ = False


class JudgeResult(msgspec.Struct, kw_only=True):
    """All tests of a solution, in the order of the request."""

    verdict: Verdict
    tests: list[TestResult]

    @property
    def passed(self) -> list[bool]:
        """Which tests passed. Raises ValueError on a judge fault, so that no fault can be scored."""
        if self.verdict is Verdict.JUDGE_FAULT:
            raise ValueError("the judge failed on this solution: judge it again or drop the sample")
        return [test.verdict is Verdict.ACCEPTED for test in self.tests]

    @classmethod
    def of(cls, tests: list[TestResult]) -> "JudgeResult":
        """A judge fault on any test, else the first verdict that is not `accepted`."""
        failures = [test.verdict for test in tests if test.verdict not in (Verdict.ACCEPTED, Verdict.SKIPPED)]
        if Verdict.JUDGE_FAULT in failures:
            return cls(verdict=Verdict.JUDGE_FAULT, tests=tests)
        return cls(verdict=failures[0] if failures else Verdict.ACCEPTED, tests=tests)
