"""Judges one solution: compiles or loads it, runs its tests in order, turns measurements into verdicts."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.judge.bubblewrap import Host
from megatron_mimo.judge.compare import same_json, same_output
from megatron_mimo.judge.compiler import Compiler
from megatron_mimo.judge.inside import preload
from megatron_mimo.judge.inside.examiner import ASSERTION_FAILED
from megatron_mimo.judge.inside.supervisor import REASON_CPU, REASON_FILES, REASON_STALLED, REASON_WALL
from megatron_mimo.judge.prelude import prelude
from megatron_mimo.judge.request import AssertTest, CallTest, JudgeRequest, Solution, StdioTest, Test
from megatron_mimo.judge.result import JudgeResult, TestResult, Verdict
from megatron_mimo.judge.sandbox import Sandbox, SandboxDied, SandboxOutcome, memory_file, read_tail

MESSAGE_BYTES = 2000
MAX_CHECKED_BYTES = 8 << 20
SIGXFSZ, SIGXCPU = 25, 24
Answer = TypeVar("Answer")
OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc")


class ProgramRun(msgspec.Struct, kw_only=True):
    """A program's run without an expected answer; `accepted` in `result` means that it ended well."""

    result: TestResult
    exit_code: int = 1
    stdout: str = ""
    stderr: str = ""


class Runner:
    """One slot's judging of one request. Blocking; `uid` is the slot's own."""

    def __init__(self, config: JudgeConfig, host: Host, compiler: Compiler, uid: int, request: JudgeRequest) -> None:
        self._config, self._host, self._compiler, self._uid = config, host, compiler, uid
        self._request, self._limits, self._solution = request, request.limits, request.solution
        self._sandbox: Sandbox | None = None
        self._binary = b""

    def judge(self) -> JudgeResult:
        """Verdicts of all tests. Raises nothing for what a solution can do; see Verdict for what is distinguished."""
        try:
            failed = self._compile()
            return self._same_for_all(failed) if failed else self._judge_tests()
        except SandboxDied as error:
            return self._same_for_all(TestResult(verdict=Verdict.JUDGE_FAULT, message=str(error)))
        finally:
            self._drop_sandbox()

    def run_once(self, stdin: str) -> ProgramRun:
        """Run the program on `stdin` and hand back its output."""
        try:
            failed = self._compile() or self._start()
            if failed:
                return ProgramRun(result=failed)
            with memory_files(stdin.encode(), b"", b"") as (source, stdout, stderr):
                outcome = self._ask("stdio", [source, stdout, stderr])
                return ProgramRun(
                    result=result(self._failure(outcome, stdout, stderr) or Verdict.ACCEPTED, outcome, stderr),
                    exit_code=outcome.exit_code,
                    stdout=read(stdout).decode(errors="replace"),
                    stderr=read(stderr).decode(errors="replace"),
                )
        except SandboxDied as error:
            return ProgramRun(result=TestResult(verdict=Verdict.JUDGE_FAULT, message=str(error)))
        finally:
            self._drop_sandbox()

    def _compile(self) -> TestResult | None:
        """The compile error of a C++ solution, if any."""
        if self._solution.language != "cpp":
            return None
        failed, self._binary = self._attempt(
            lambda: self._compiler.compile(self._solution.source, self._limits, self._uid)
        )
        return failed

    def _judge_tests(self) -> JudgeResult:
        results = [TestResult(verdict=Verdict.SKIPPED) for _ in self._request.tests]
        spent = 0.0
        for index in self._request.order():
            if spent > self._limits.total_wall_seconds:
                results[index] = TestResult(verdict=Verdict.TIME_LIMIT, message="limits.total_wall_seconds is spent")
                continue
            results[index] = self._attempt(lambda test=self._request.tests[index]: self._run(test))
            found = results[index]
            # A program that waits spends the clock's time, any other the processor's.
            waited = found.verdict is Verdict.TIME_LIMIT and found.cpu_seconds < self._limits.cpu_seconds
            spent += found.wall_seconds if waited else found.cpu_seconds
            if results[index].verdict is Verdict.COMPILE_ERROR:
                return self._same_for_all(results[index])
            if self._request.stop_at_first_failure and results[index].verdict is not Verdict.ACCEPTED:
                break
        return JudgeResult.of(results)

    def _same_for_all(self, result: TestResult) -> JudgeResult:
        return JudgeResult(verdict=result.verdict, tests=[result for _ in self._request.tests])

    def _attempt(self, action: Callable[[], Answer]) -> Answer:
        """Again in a new sandbox if the sandbox fails."""
        for attempt in range(self._config.max_attempts):
            try:
                return action()
            except SandboxDied:
                self._drop_sandbox()
                if attempt + 1 == self._config.max_attempts:
                    raise
        raise AssertionError

    def _run(self, test: Test) -> TestResult:
        if self._sandbox is None:
            failed = self._start()
            if failed:
                return failed
        match test:
            case StdioTest():
                return self._run_stdio(test)
            case CallTest():
                return self._run_call(test)
            case AssertTest():
                return self._run_assert(test)

    def _start(self) -> TestResult | None:
        """A new sandbox with the solution in it; a result if the solution does not compile."""
        self._sandbox = Sandbox(self._host, self._limits, self._uid, self._modules())
        if self._solution.language == "cpp":
            with memory_files(self._binary) as (binary,):
                self._sandbox.load_binary(binary)
            return None
        with memory_files(self._solution.source.encode(errors="surrogatepass"), b"") as (source, errors):
            outcome = self._sandbox.run("load", {"prelude": self._prelude()}, [source, errors])
            if outcome.reason in (REASON_WALL, REASON_STALLED):
                raise SandboxDied(f"no processor to read the solution in {outcome.wall_seconds:.0f} s")
            if outcome.exit_code == 0:
                return None
            return result(Verdict.COMPILE_ERROR, outcome, errors)

    def _prelude(self) -> str:
        return prelude(self._solution.source) if self._solution.prelude == "usual" else ""

    def _modules(self) -> list[str]:
        """What the sandbox imports once, before the first test."""
        python = self._solution.language == "python"
        modules = preload.mentioned(self._prelude() + self._solution.source) if python else []
        if any(isinstance(test, CallTest) for test in self._request.tests):
            modules += ["json", "inside.nodes"]
        if any(isinstance(test, AssertTest) for test in self._request.tests):
            modules += ["inside.examiner", "inside.remote"]
            modules += [name for name in ("unittest", "decimal", "fractions", "datetime") if self._tests_mention(name)]
        return modules

    def _tests_mention(self, name: str) -> bool:
        return any(name in test.program for test in self._request.tests if isinstance(test, AssertTest))

    def _run_stdio(self, test: StdioTest) -> TestResult:
        with memory_files(test.stdin.encode(), b"", b"") as (stdin, stdout, stderr):
            outcome = self._ask("stdio", [stdin, stdout, stderr])
            verdict = self._failure(outcome, stdout, stderr)
            if verdict is None and test.checker:
                return self._checked(test, read(stdout), result(Verdict.ACCEPTED, outcome, stderr))
            if verdict is None:
                right = same_output(read(stdout), test.stdout.encode(), test.compare, test.float_tolerance)
                verdict = Verdict.ACCEPTED if right else Verdict.WRONG_ANSWER
            return result(verdict, outcome, stderr)

    def _checked(self, test: StdioTest, output: bytes, ran: TestResult) -> TestResult:
        """The problem's own checker on the output: an exception refuses it, any other failure is the judge's fault."""
        if len(output) > MAX_CHECKED_BYTES:
            return msgspec.structs.replace(ran, verdict=Verdict.WRONG_ANSWER, message="too much output for the checker")
        given = [test.stdin, output.decode(errors="replace"), test.stdout]
        request = JudgeRequest(
            solution=Solution(source=test.checker, prelude="usual"),
            tests=[CallTest(function="check", arguments=given, expected=True)],
            limits=self._limits,
        )
        found = Runner(self._config, self._host, self._compiler, self._uid, request).judge().tests[0]
        if found.verdict is Verdict.ACCEPTED:
            return ran
        refused = found.verdict in (Verdict.WRONG_ANSWER, Verdict.RUNTIME_ERROR)
        verdict = Verdict.WRONG_ANSWER if refused else Verdict.JUDGE_FAULT
        return msgspec.structs.replace(ran, verdict=verdict, message=f"checker: {found.verdict} {found.message}"[:2000])

    def _run_call(self, test: CallTest) -> TestResult:
        with memory_files(json.dumps(test.arguments).encode(), b"", b"", b"") as (arguments, stdout, stderr, answer):
            outcome = self._ask("call", [arguments, stdout, stderr, answer], function=test.function)
            verdict = self._failure(outcome, stdout, stderr)
            if verdict is None:
                right = same_json(read(answer), test.expected, test.float_tolerance)
                verdict = Verdict.ACCEPTED if right else Verdict.WRONG_ANSWER
            return result(verdict, outcome, stderr)

    def _run_assert(self, test: AssertTest) -> TestResult:
        with memory_files((test.prelude + test.program).encode(), b"", b"") as (program, stdout, stderr):
            outcome = self._ask(
                "assert",
                [program, stdout, stderr],
                prelude_length=len(test.prelude),
                entry_points=test.entry_points,
            )
            verdict = self._failure(outcome, stdout, stderr)
            if verdict is Verdict.RUNTIME_ERROR and outcome.exit_code == ASSERTION_FAILED:
                verdict = Verdict.WRONG_ANSWER
            return result(verdict or Verdict.ACCEPTED, outcome, stderr)

    def _ask(self, kind: str, fds: list[int], **more: object) -> SandboxOutcome:
        assert self._sandbox is not None
        dev_stdin = bool(self._limits.scratch_bytes) and "/dev/stdin" in self._solution.source
        outcome = self._sandbox.run("test", {"kind": kind, "dev_stdin": dev_stdin, **more}, fds)
        if outcome.reason == REASON_STALLED:
            raise SandboxDied(
                f"the program got {outcome.cpu_seconds:.2f} s of processor in {outcome.wall_seconds:.0f} s: "
                "the machine is overloaded"
            )
        if outcome.dirty:
            self._drop_sandbox()
        return outcome

    def _failure(self, outcome: SandboxOutcome, stdout: int, stderr: int) -> Verdict | None:
        """Why a run failed, None if it ended well. Which failing verdict is a hint; that it failed is certain."""
        limits = self._limits
        if outcome.reason in (REASON_CPU, REASON_WALL) or outcome.exit_code == -SIGXCPU:
            return Verdict.TIME_LIMIT
        full = max(os.fstat(fd).st_size for fd in (stdout, stderr)) >= limits.output_bytes
        if outcome.reason == REASON_FILES or outcome.exit_code == -SIGXFSZ or full:
            return Verdict.OUTPUT_LIMIT
        if outcome.memory_bytes > limits.memory_bytes:
            return Verdict.MEMORY_LIMIT
        if outcome.exit_code == 0:
            return None
        if any(words in read_tail(stderr, MESSAGE_BYTES) for words in OUT_OF_MEMORY):
            return Verdict.MEMORY_LIMIT
        return Verdict.RUNTIME_ERROR

    def _drop_sandbox(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


def result(verdict: Verdict, outcome: SandboxOutcome, stderr: int) -> TestResult:
    message = "" if verdict is Verdict.ACCEPTED else read_tail(stderr, MESSAGE_BYTES).decode(errors="replace")
    return TestResult(
        verdict=verdict,
        cpu_seconds=outcome.cpu_seconds,
        wall_seconds=outcome.wall_seconds,
        memory_bytes=outcome.memory_bytes,
        message=message,
    )


def read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


@contextlib.contextmanager
def memory_files(*contents: bytes) -> Iterator[list[int]]:
    """Descriptors of unnamed files in memory, closed at the end."""
    fds: list[int] = []
    try:
        for content in contents:
            fds.append(memory_file(content))
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
