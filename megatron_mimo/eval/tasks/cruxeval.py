"""CRUXEval: what a small Python function returns (output), or which arguments give a value (input).

Outputs are compared as Python literals in this process: parsing runs nothing. Inputs are one call of f, which is run
in the judge's sandbox; its arguments may be expressions, since those of a dozen problems are.
"""

import ast
from dataclasses import dataclass
from typing import Any, Literal

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, user
from megatron_mimo.judge.request import AssertTest, Limits
from megatron_mimo.judge.result import Verdict
from megatron_mimo.reward.boxed import last_boxed
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part

MAX_ANSWER_CHARACTERS = 10_000


@dataclass
class CruxEval(EvalTask):
    """`ask` output: predict the value; input: find arguments."""

    name: str
    ask: Literal["output", "input"]
    files: tuple[str, ...] = ("cruxeval", "test")
    version = "2"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs = frozenset({"judge"} if self.ask == "input" else ())

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        code, given, output = record["code"], record["input"], record["output"]
        if self.ask == "output":
            question = f"What is the value of f({given})?"
            form = "its value as a Python literal"
        else:
            question = f"Find arguments for which f returns {output}."
            form = "the call f(...) with Python literals as arguments"
        text = f"```python\n{code}\n```\n\n{question} Think step by step, then give {form} in one Python code block."
        wanted = output if self.ask == "output" else f"f({given})"
        return EvalProblem(
            id=str(record["id"]),
            messages=user(text),
            question=code,
            reference=record,
            shown=wanted,
            golden=f"```python\n{wanted}\n```",
        )

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
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
    """Equal values of equal types, in containers too; `f(...) == value`, asserted or not, stands for its value."""
    try:
        ours, theirs = literal(value_of(answer)), literal(wanted)
    except ValueError:
        return answer == wanted
    return typed(ours) == typed(theirs)


def value_of(answer: str) -> str:
    """The right side of one comparison `f(...) == value`, or the answer itself."""
    try:
        node = ast.parse(answer.removeprefix("assert ").strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return answer
    if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Call):
        return answer
    is_equality = len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq)
    return ast.unparse(node.comparators[0]) if is_equality else answer


def typed(value: Any) -> Any:
    """The value with the type of everything in it, for comparison: 1, 1.0 and True are three values."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {(type(item), item) for item in value}
    if isinstance(value, dict):
        return dict, {(type(key), key): typed(item) for key, item in value.items()}
    return type(value), value


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
