"""CRUXEval: what a small Python function returns (output), or which arguments give a value (input).

Outputs are compared as Python literals in this process: parsing runs nothing. Inputs are one call of f, which is run
in the judge's sandbox; its arguments may be expressions, since those of a dozen problems are.
"""

import ast
from dataclasses import dataclass
from typing import Any, Literal

from megatron_mimo.eval.protocol import Grade, Graders, Problem, Task, user
from megatron_mimo.judge.request import AssertTest, Limits
from megatron_mimo.judge.result import Verdict
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part
from megatron_mimo.reward.math_answer import last_boxed

MAX_ANSWER_CHARACTERS = 10_000


@dataclass
class CruxEval(Task):
    """`ask` output: predict the value; input: find arguments."""

    name: str
    ask: Literal["output", "input"]
    files: tuple[str, ...] = ("cruxeval", "test")

    def __post_init__(self) -> None:
        self.needs = frozenset({"judge"} if self.ask == "input" else ())

    def problem(self, record: dict[str, Any], number: int) -> Problem:
        code, given, output = record["code"], record["input"], record["output"]
        if self.ask == "output":
            question = f"What is the value of f({given})?"
            form = "its value as a Python literal"
        else:
            question = f"Find arguments for which f returns {output}."
            form = "the call f(...) with Python literals as arguments"
        text = f"```python\n{code}\n```\n\n{question} Think step by step, then give {form} in one Python code block."
        wanted = output if self.ask == "output" else f"f({given})"
        return Problem(
            id=str(record["id"]),
            messages=user(text),
            reference=record,
            shown=wanted,
            golden=f"```python\n{wanted}\n```",
        )

    async def grade(self, problem: Problem, response: str, graders: Graders) -> Grade:
        answer = short_answer(response)
        if answer is None:
            return Grade(0.0, None, "no answer in a code block or box")
        if self.ask == "output":
            right = same_literal(answer, problem.reference["output"])
            return Grade(float(right), answer, "right" if right else "wrong")
        call = call_of_f(answer)
        if call is None:
            return Grade(0.0, answer, "no call of f")
        source = f"{problem.reference['code']}\n\ndef answered():\n    return {call}\n"
        test = AssertTest(program=f"assert answered() == {problem.reference['output']}")
        result = await graders.run_tests(source, [test], Limits())
        return Grade(float(result.verdict is Verdict.ACCEPTED), answer, str(result.verdict))


def short_answer(response: str) -> str | None:
    """The last code block, else what is boxed."""
    block = last_code_block(final_part(response))
    if block is None:
        boxed = last_boxed(final_part(response))
        block = boxed.partition("{")[2][:-1] if boxed else None
    if block is None or len(block) > MAX_ANSWER_CHARACTERS:
        return None
    # A line `assert f(...) == value`, which the benchmark's own prompts ask for, is accepted as well.
    return block.strip()


def literal(text: str) -> Any:
    """The value of a Python literal. Raises ValueError for anything else."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("no literal") from error


def same_literal(answer: str, wanted: str) -> bool:
    """Equal values of equal type; `assert f(...) == value` stands for its value."""
    if answer.startswith("assert ") and " == " in answer:
        answer = answer.rpartition(" == ")[2]
    try:
        ours, theirs = literal(answer), literal(wanted)
    except ValueError:
        return answer == wanted
    return ours == theirs and type(ours) is type(theirs)


def call_of_f(answer: str) -> str | None:
    """The answer as one call `f(...)`, or None; bare arguments are taken as those of f."""
    if answer.startswith("assert "):
        answer = answer.removeprefix("assert ").rpartition(" == ")[0]
    for text in (answer, f"f({answer})"):
        try:
            node = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f":
            return ast.unparse(node)
    return None
