"""Generated problems of graded difficulty that MiMo-nano can learn: `megatron-mimo nano-problems FOLDER`.

Mathematics: sums, differences and products of two-digit numbers, by how many carries they need. Code: functions whose
tests go from what a lazy answer passes to what only a right one does. Held-out problems are in no training data.

The command writes train_math.jsonl, valid_math.jsonl, train_code.jsonl and valid_code.jsonl, without the products:
their worked answers take too long for a laptop's rollouts. The policy to start from: examples/nano/sft_for_rl.yaml.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem
from megatron_mimo.data.nano.corpus_arithmetic import problems as arithmetic
from megatron_mimo.data.nano.nano_programs import programs
from megatron_mimo.judge.request import CallTest, Test
from megatron_mimo.rl.problems.problem import Problem, write_problems

RANDOM_INPUTS = 2
"""Further hard tests a program, between 100 and 1000."""


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


def arithmetic_difficulty(problem: ArithmeticProblem) -> int:
    """0 sum or difference without a carry, 1 with one, 2 a product with a round factor, 3 any other product."""
    ones = problem.a % 10, problem.b % 10
    if problem.operator == "*":
        return 2 if 0 in ones else 3
    return int(sum(ones) >= 10 if problem.operator == "+" else ones[0] < ones[1])


def nano_code(seed: int = 0) -> Iterator[tuple[Problem, bool]]:
    """(problem, held out): tests 0.. are easy and the last ones hard, so `levels` has 0 and 1."""
    generator = random.Random(f"nano code {seed}")
    for program in programs():
        # Evaluates text of this package, never of a user.
        rule = eval(f"lambda x: {program.expression}", {"__builtins__": {"abs": abs, "max": max, "min": min}})
        drawn = (generator.randrange(100, 1000) for _ in range(RANDOM_INPUTS))
        inputs = [*program.easy_inputs, *program.hard_inputs, *drawn]
        tests: list[Test] = [CallTest(function=program.function, arguments=[x], expected=rule(x)) for x in inputs]
        num_easy = len(program.easy_inputs)
        problem = Problem(
            id=program.id,
            prompt=program.prompt,
            kind="code",
            tests=tests,
            golden=program.source,
            levels=[0] * num_easy + [1] * (len(inputs) - num_easy),
            scores=[0.5, 0.5],
            source="program",
        )
        yield problem, program.held_out


def write_problem_files(folder: Path, seed: int = 0) -> dict[str, int]:
    """The four files, shuffled; returns the problems in each."""
    folder.mkdir(parents=True, exist_ok=True)
    short = [(problem, held_out) for problem, held_out in nano_math() if "*" not in problem.id]
    numbers = {}
    for kind, problems in (("math", short), ("code", [*nano_code(seed)])):
        random.Random(f"{kind} {seed}").shuffle(problems)
        for split in ("train", "valid"):
            chosen = [problem for problem, held_out in problems if held_out == (split == "valid")]
            numbers[f"{split}_{kind}.jsonl"] = write_problems(folder / f"{split}_{kind}.jsonl", chosen)
    return numbers


def main() -> int:
    """Write the files."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    try:
        numbers = write_problem_files(Path(sys.argv[1]))
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for name, number in numbers.items():
        print(f"{sys.argv[1]}/{name}: {number:,} problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
