"""Is a response worth keeping? Verifiers by kind of query, run where a bad response can hurt nobody.

Mathematics: Math-Verify on what stands in the last `\\boxed{}`, and only there: with its default extraction a stray
digit matches. Code: any judge that fits `Judge`. Everything else: the response is whole and no refusal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.data.synthesize.queries import Query
from megatron_mimo.judge import AssertTest, JudgePool, Test
from megatron_mimo.judge.preparation import solution_for
from megatron_mimo.reward.boxed import last_boxed
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part
from megatron_mimo.reward.math_answer import verify_boxed

_REFUSALS = re.compile(
    r"(I'm sorry|I am sorry|I can(no|')t|I cannot|As an AI|Sorry, but|抱歉|对不起|作为一个人工智能|我无法)"
)
MIN_OPEN_CHARACTERS = 200


@dataclass(frozen=True)
class ResponseVerdict:
    """Accepted, or why not: a short constant text, responses are counted by it."""

    accepted: bool
    reason: str = ""
    undecided: bool = False
    """The verifier's own failure says nothing about the response: it is to be verified again another day."""


ACCEPTED = ResponseVerdict(True)


class Verifier(Protocol):
    """Checks one response; called in a worker process, so it must pickle, and may hang or die there."""

    def verify(self, query: Query, response: str) -> ResponseVerdict:
        """The verdict on the part of the response after its thinking."""
        ...


class CodeJudge(Protocol):
    """What runs programs against tests, in a sandbox."""

    def run(self, program: str, tests: Sequence[Any]) -> bool:
        """True when the program passes all tests; raises for a failure that is the judge's own."""
        ...


def check_whole(response: str, finish_reason: str) -> ResponseVerdict:
    """What no kind of response may lack: its end, an end of its thinking, and content."""
    if finish_reason == "length":
        return ResponseVerdict(False, "cut at the token limit")
    if response.count("<think>") != response.count("</think>"):
        return ResponseVerdict(False, "thinking has no end")
    return ACCEPTED if final_part(response).strip() else ResponseVerdict(False, "empty")


@dataclass(frozen=True)
class OpenVerifier:
    """For answers that nothing can check: long enough and no refusal."""

    min_characters: int = MIN_OPEN_CHARACTERS

    def verify(self, query: Query, response: str) -> ResponseVerdict:
        """Look at the answer's beginning and length."""
        text = final_part(response).strip()
        if _REFUSALS.match(text):
            return ResponseVerdict(False, "refusal")
        return ACCEPTED if len(text) >= self.min_characters else ResponseVerdict(False, "too short")


@dataclass(frozen=True)
class MathResponseVerifier:
    """Equal to the gold answer by Math-Verify, as in the reward of RL."""

    def verify(self, query: Query, response: str) -> ResponseVerdict:
        """Compare the last boxed expression of the answer's text."""
        text = final_part(response)
        if last_boxed(text) is None:
            return ResponseVerdict(False, "no boxed answer")
        return ACCEPTED if verify_boxed(text, query.answer) else ResponseVerdict(False, "wrong answer")


class SandboxJudge:
    """The project's own judge, one slot a process, started with the first program.

    Tests are lines of asserts, or the records of `judge.request` as JSON (`{"type": "stdio", ...}`).
    """

    def __init__(self) -> None:
        self._pool: JudgePool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_pool": None}

    def run(self, program: str, tests: Sequence[Any]) -> bool:
        """Raises SandboxUnavailable where no sandbox can be made, ValueError for a fault of the judge."""
        if self._pool is None:
            self._pool = JudgePool(JudgeConfig(num_slots=1))
        asserts = [test for test in tests if isinstance(test, str)]
        records: list[Test] = [msgspec.convert(test, Test) for test in tests if not isinstance(test, str)]
        if asserts:
            records.append(AssertTest(program="\n".join(asserts)))
        return all(self._pool.judge_now(solution_for(program, records), records).passed)


@dataclass(frozen=True)
class CodeVerifier:
    """The last code block passes the query's tests."""

    judge: CodeJudge = field(default_factory=SandboxJudge)

    def verify(self, query: Query, response: str) -> ResponseVerdict:
        """Run the program by the judge."""
        program = last_code_block(final_part(response))
        if program is None:
            return ResponseVerdict(False, "no code block")
        return ACCEPTED if self.judge.run(program, query.tests) else ResponseVerdict(False, "tests failed")
