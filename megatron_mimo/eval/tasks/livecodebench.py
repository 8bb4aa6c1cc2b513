"""LiveCodeBench (code generation): contest problems in a window of dates; stdin/stdout programs and functions.

Files are those of the data set `livecodebench/code_generation_lite` (test.jsonl, test2.jsonl, ... joined). Private
tests are packed as base64 of zlib of a pickled JSON text: the text is read out of the pickle's opcodes; nothing is
unpickled.
"""

import base64
import datetime
import json
import pickletools
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError
from megatron_mimo.eval import lcb
from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, user
from megatron_mimo.eval.records import Source, split_files
from megatron_mimo.eval.tasks.programs import fenced
from megatron_mimo.judge.preparation import contest_test
from megatron_mimo.judge.request import Limits, Test
from megatron_mimo.judge.result import Verdict
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part

LIMITS = Limits(cpu_seconds=6.0, memory_bytes=4 << 30)
"""Six seconds per test are LiveCodeBench's."""
MAX_TESTS_BYTES = 1 << 30
PART = re.compile(r"test(\d*)\.jsonl(?:\.gz)?")


@dataclass(frozen=True)
class ContestTests:
    """Tests of a problem; `function` is None for programs that read standard input."""

    inputs: list[str]
    outputs: list[str]
    function: str | None

    def judge_tests(self) -> list[Test]:
        """The same tests for the strict judge."""
        pairs = zip(self.inputs, self.outputs, strict=True)
        return [contest_test(given, wanted, self.function) for given, wanted in pairs]


@dataclass
class LiveCodeBench(EvalTask):
    """`runner` judge: strict. `lcb-compat`: the rules of the benchmark's own runner (lcb.py)."""

    name: str = "livecodebench"
    files: tuple[str, ...] = ("livecodebench", "code_generation_lite")
    first_date: str | None = None
    end_date: str | None = None
    runner: str = "judge"
    needs = frozenset({"judge"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_date and self.end_date and self.first_date >= self.end_date:
            raise ConfigError("tasks.end_date", self.end_date, f"must be after first_date {self.first_date}")

    def find(self, folder: str, path: str | None) -> list[Source]:
        """Its file, or all of the parts test.jsonl, test2.jsonl, ... that the data set is downloaded as."""
        parts = [source for source in split_files(Path(folder), "test") if PART.fullmatch(source.path.name)]
        own = [source for source in parts if source.path.parent == Path(folder)]
        if path is not None or not own:
            own = super().find(folder, path)
        numbers = {int(match[1] or 1) for source in own if (match := PART.fullmatch(source.path.name))}
        missing = sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
        names = ", ".join(source.path.name for source in own)
        if missing:
            absent = ", ".join(f"test{number if number > 1 else ''}.jsonl" for number in missing)
            self.notes.append(f"read {names} WITHOUT {absent}: problems of the window may be missing")
        elif len(own) > 1:
            self.notes.append(f"read {names}")
        return own

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        if not self._in_window(record):
            return None
        tests = read_tests(record)
        starter = record.get("starter_code") or ""
        return EvalProblem(
            id=str(record["question_id"]),
            messages=user(prompt(record["question_content"], starter)),
            question=record["question_content"],
            reference=tests,
            shown=f"{len(tests.inputs)} tests, {tests.function or 'standard input and output'}",
            golden=fenced(record["solution"]) if record.get("solution") else None,
            group=str(record.get("difficulty", "")),
        )

    def _in_window(self, record: dict[str, Any]) -> bool:
        if self.first_date is None and self.end_date is None:
            return True
        day = datetime.date.fromisoformat(str(record["contest_date"])[:10]).isoformat()
        return (self.first_date or "") <= day and (self.end_date is None or day < self.end_date)

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        source = last_code_block(final_part(response))
        if source is None:
            return Grade(0.0, None, "no code block")
        tests: ContestTests = problem.reference
        if self.runner == "lcb-compat":
            right, verdict = await lcb.grade(source, tests.inputs, tests.outputs, tests.function, graders.pool)
            return Grade(float(right), source, verdict)
        result = await graders.run_tests(source, tests.judge_tests(), LIMITS)
        return Grade(float(result.verdict is Verdict.ACCEPTED), source, str(result.verdict))


def prompt(question: str, starter: str) -> str:
    if starter:
        how = f"Complete this starter code and give all of it in one Python code block.\n\n```python\n{starter}\n```"
    else:
        how = (
            "Write a Python program that reads from standard input and writes to standard output. "
            "Give it in one Python code block."
        )
    return f"{question.strip()}\n\n{how}"


def read_tests(record: dict[str, Any]) -> ContestTests:
    """Public and private tests; the function's name stands in `metadata`."""
    tests = json.loads(record["public_test_cases"]) + unpack_tests(record["private_test_cases"])
    if not tests:
        raise ValueError("no tests")
    metadata = record.get("metadata") or "{}"
    function = (json.loads(metadata) if isinstance(metadata, str) else metadata).get("func_name")
    if function is None and any(test.get("testtype") == "functional" for test in tests):
        raise KeyError("func_name in metadata")
    return ContestTests([test["input"] for test in tests], [test["output"] for test in tests], function)


def unpack_tests(packed: str) -> list[dict[str, Any]]:
    """JSON, or base64(zlib(pickle of JSON text)). Raises ValueError for anything else."""
    try:
        return json.loads(packed)
    except ValueError:
        pass
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(packed), MAX_TESTS_BYTES)
    except zlib.error as error:
        raise ValueError(f"private_test_cases cannot be unpacked: {error}") from error
    texts = [argument for opcode, argument, _ in pickletools.genops(content) if "UNICODE" in opcode.name]
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise ValueError("private_test_cases is no packed text")
    return json.loads(texts[0])
