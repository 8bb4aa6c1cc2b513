"""Generated problems of graded difficulty that a model of a few million parameters can learn, in its corpus' form.

Mathematics: sums, differences and products of two-digit numbers, by how many carries they need. Code: functions whose
tests go from what half a solution passes to what only a right one does. Held-out problems are those of the corpus.
"""

import random
from collections.abc import Iterator

from megatron_mimo.data.corpus_arithmetic import Problem as Arithmetic
from megatron_mimo.data.corpus_arithmetic import problems as arithmetic
from megatron_mimo.data.document import is_held_out
from megatron_mimo.judge.request import CallTest, Test
from megatron_mimo.rl.problems.problem import Problem

HELD_OUT_SHARE = 0.1
Task = tuple[str, str, str, tuple[int, ...], tuple[int, ...]]
TASKS: list[Task] = [
    # name, what it returns, expression, easy inputs (a lazy answer passes), hard inputs; {k} is a number
    ("at_most_{k}", "the smaller of x and {k}", "min(x, {k})", (0, 1, 2), (100, 250, 999)),
    ("at_least_{k}", "the larger of x and {k}", "max(x, {k})", (100, 250, 999), (0, 1, 2)),
    ("distance_to_{k}", "the distance between x and {k}", "abs(x - {k})", (100, 300, 500), (0, 1, 2)),
    ("remainder_by_{k}", "the remainder of x divided by {k}", "x % {k}", (0, 1, 2), (100, 301, 777)),
    ("divide_by_{k}", "x divided by {k}, rounded down", "x // {k}", (0, 1, 2), (100, 301, 777)),
    ("add_{k}", "x plus {k}", "x + {k}", (0, 1), (58, 399)),
]


def nano_math() -> Iterator[tuple[Problem, bool]]:
    """(problem, held out) of all two-digit arithmetic; `source` is `arithmetic/D` with the difficulty D."""
    for problem in arithmetic():
        yield (
            Problem(
                id=problem.id,
                prompt=problem.prompt,
                kind="math",
                answer=str(problem.answer),
                source=f"arithmetic/{arithmetic_difficulty(problem)}",
            ),
            problem.held_out,
        )


def arithmetic_difficulty(problem: Arithmetic) -> int:
    """0 sum or difference without a carry, 1 with one, 2 a product with a round factor, 3 any other product."""
    ones = problem.a % 10, problem.b % 10
    if problem.operator == "*":
        return 2 if 0 in ones else 3
    return int(sum(ones) >= 10 if problem.operator == "+" else ones[0] < ones[1])


def nano_code(seed: int = 0) -> Iterator[tuple[Problem, bool]]:
    """(problem, held out): tests 0.. are easy and the last ones hard, so `levels` has 0 and 1."""
    generator = random.Random(f"nano code {seed}")
    for name, returns, expression, easy, hard in TASKS:
        for k in range(3, 80):
            function, body = name.format(k=k), expression.format(k=k)
            # Evaluates text of this file, never of a user.
            rule = eval(f"lambda x: {body}", {"__builtins__": {"abs": abs, "max": max, "min": min}})
            inputs = [*easy, *hard, *(generator.randrange(100, 1000) for _ in range(2))]
            tests: list[Test] = [CallTest(function=function, arguments=[x], expected=rule(x)) for x in inputs]
            problem = Problem(
                id=f"program/{function}",
                prompt=f"Task: Write a Python function {function}(x) that returns {returns.format(k=k)}.\n",
                kind="code",
                tests=tests,
                golden=f"def {function}(x):\n    return {body}\n",
                levels=[0] * len(easy) + [1] * (len(inputs) - len(easy)),
                scores=[0.5, 0.5],
                source="program",
            )
            yield problem, is_held_out(problem.id, HELD_OUT_SHARE)
