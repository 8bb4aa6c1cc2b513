"""Python functions: HumanEval, MBPP, and their EvalPlus versions with many more tests.

The answer is the last code block after the reasoning. HumanEval+ and MBPP+ are read in the form of the Hugging Face
data sets (evalplus/humanevalplus, evalplus/mbppplus), whose test programs import numpy: name its folder in
`judge.python_packages`. The files of EvalPlus' own releases hold inputs without outputs and are refused.
"""

from dataclasses import dataclass
from typing import Any

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, first, user
from megatron_mimo.judge.preparation import mbpp_tests
from megatron_mimo.judge.request import AssertTest, Limits, Test
from megatron_mimo.judge.result import Verdict
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part

PLUS_LIMITS = Limits(cpu_seconds=60.0, wall_seconds=180.0)
"""EvalPlus has hundreds of tests in one program."""


@dataclass(frozen=True)
class Tests:
    """How a solution is judged."""

    tests: list[Test]
    limits: Limits
    header: str = ""
    """Put before the answer's code: the prompt's imports and helpers, which models take as given."""


async def judge_code(problem: EvalProblem, response: str, graders: Graders) -> Grade:
    """All tests must pass."""
    source = last_code_block(final_part(response))
    if source is None:
        return Grade(0.0, None, "no code block")
    how: Tests = problem.reference
    result = await graders.run_tests(how.header + source, how.tests, how.limits)
    return Grade(float(result.verdict is Verdict.ACCEPTED), source, str(result.verdict))


@dataclass
class HumanEval(EvalTask):
    """Complete a function from its signature and docstring."""

    name: str
    files: tuple[str, ...]
    limits: Limits
    needs = frozenset({"judge"})

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        refuse_release_form(record)
        prompt, entry_point = record["prompt"], record["entry_point"]
        # The prompt ends inside of the function; its helpers are trusted, the function itself is the solution's.
        test = AssertTest(
            program=f"{record['test']}\ncheck({entry_point})",
            prelude=prompt + "    pass\n",
            entry_points=[entry_point],
        )
        golden = prompt + record["canonical_solution"] if record.get("canonical_solution") else None
        return EvalProblem(
            id=str(record["task_id"]),
            messages=user(
                "Complete this Python function. Give the whole function in one Python code block.\n\n"
                f"```python\n{prompt.strip()}\n```"
            ),
            question=prompt,
            reference=Tests([test], self.limits, prompt[: prompt.rindex(f"def {entry_point}")]),
            shown=record["test"].strip(),
            golden=golden and fenced(golden),
        )

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        return await judge_code(problem, response, graders)


def refuse_release_form(record: dict[str, Any]) -> None:
    """Raises ValueError for a record of EvalPlus' release, whose outputs its own package computes."""
    if "plus_input" in record:
        raise ValueError(
            "it is of EvalPlus' release form (base_input, plus_input), which has no test program; take the data set "
            "evalplus/humanevalplus or evalplus/mbppplus from the Hugging Face hub"
        )


@dataclass
class Mbpp(EvalTask):
    """Write a function from a sentence; the tests are shown, as is usual, since they alone name the function."""

    name: str
    files: tuple[str, ...]
    limits: Limits
    first_id: int = 11
    last_id: int = 510
    """The test split of the whole data set is 11 to 510."""
    needs = frozenset({"judge"})

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        refuse_release_form(record)
        if not self.first_id <= int(record["task_id"]) <= self.last_id:
            return None
        asserts, code = list(record["test_list"]), record.get("code")
        text = str(first(record, "text", "prompt")).strip()
        return EvalProblem(
            id=str(record["task_id"]),
            messages=user(
                f"{text}\nThe function must pass these tests:\n\n```python\n"
                + "\n".join(asserts)
                + "\n```\n\nGive the whole function, with its imports, in one Python code block."
            ),
            question="\n".join([text, *asserts]),
            reference=Tests(mbpp_tests(record), self.limits),
            shown="\n".join(asserts),
            golden=fenced(code) if code else None,
        )

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        return await judge_code(problem, response, graders)


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


def programs() -> list[EvalTask]:
    usual = Limits()
    return [
        HumanEval("humaneval", ("HumanEval", "humaneval"), usual),
        HumanEval("humaneval_plus", ("HumanEvalPlus", "humanevalplus", "humaneval_plus"), PLUS_LIMITS),
        Mbpp("mbpp", ("mbpp",), usual),
        Mbpp("mbpp_all", ("mbpp",), usual, first_id=0, last_id=10**9),
        Mbpp("mbpp_plus", ("MbppPlus", "mbppplus", "mbpp_plus"), PLUS_LIMITS, first_id=0, last_id=10**9),
    ]
