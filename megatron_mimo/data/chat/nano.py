"""Generated conversations for MiMo-nano: `megatron-mimo nano-chat FOLDER`.

train.jsonl           the embedded corpus' arithmetic in many wordings, worked steps in a think block, the result boxed
heldout.jsonl         with their answers, problems that no split trains on
heldout_corpus.jsonl  the same, as the corpus asks them: for the base model
rl_start.jsonl        answers of mixed quality, some careless or lazy, for a policy that RL can improve

Held-out problems and programs are in none of them but those named so.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.data.chat.nano_wordings import SYMBOLS, draw
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem, problems
from megatron_mimo.data.nano.nano_programs import Program, programs
from megatron_mimo.platform.files import write_text

CHECK_WORDINGS = (
    "{id}=?",
    "Can you tell me what {a} plus {b} is?",
    "There are {a} red and {b} green apples. How many apples are there together?",
)
"""How sums are asked to find out whether a model answers: as in the conversations, and twice as they never do."""
SYSTEM = "Answer with the result in a box."
SYSTEM_PROMPTS = (SYSTEM, "", "", None, None)
"""Drawn with equal chances: a system message, an empty one as chat and evaluation send it, none."""
SHARE_OF_PRODUCTS = 0.3
CARELESS_SHARE = 0.6
"""Of the arithmetic answers in rl_start.jsonl: the carry is forgotten, so that they are right where there is none."""
LAZY_SHARE = 0.35
"""Of the programs in rl_start.jsonl: right for the easy tests alone."""
NUM_START_PROBLEMS = 2000
ANSWERS_PER_PROGRAM = 6
"""In rl_start.jsonl, drawn one by one."""
Conversation = dict[str, Any]


def conversation(problem: ArithmeticProblem, generator: random.Random) -> Conversation:
    """One question and its worked answer."""
    *steps, answer = problem.solution.split("\n")
    worked = "\n".join(steps)
    wording = draw(problem, generator)
    system = system_message(generator.choice(SYSTEM_PROMPTS))
    response = f"<think>\n{problem.prompt}{worked}\n</think>\n{answer}"
    return {"messages": [*system, *turns(ask(problem, wording), response)]}


def ask(problem: ArithmeticProblem, wording: str) -> str:
    """The question that a wording makes of a problem."""
    return wording.format(id=problem.id, a=problem.a, b=problem.b, operator=problem.operator)


def shown(wording: str) -> str:
    """A wording with letters for the numbers, as tables name it."""
    return wording.format(id="A+B", a="A", b="B")


def turns(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def train_conversations(seed: int = 0) -> Iterator[Conversation]:
    """One conversation per problem that is not held out, shuffled; of the products, whose steps are long, a part."""
    generator = random.Random(seed)
    chosen = [problem for problem in problems() if not problem.held_out]
    chosen = [problem for problem in chosen if problem.operator != "*" or generator.random() < SHARE_OF_PRODUCTS]
    generator.shuffle(chosen)
    return (conversation(problem, generator) for problem in chosen)


def held_out_questions(wording: str = SYMBOLS[0]) -> list[dict[str, str]]:
    """`{"id", "prompt", "answer"}` of every held-out problem, shuffled: the first ones are a fair sample."""
    chosen = [problem for problem in problems() if problem.held_out]
    random.Random(0).shuffle(chosen)
    return [{"id": problem.id, "prompt": ask(problem, wording), "answer": str(problem.answer)} for problem in chosen]


def start_conversations(seed: int = 0) -> list[Conversation]:
    """Sums, differences and programs asked as the RL problems ask them, some of the answers careless or lazy."""
    generator = random.Random(f"rl start {seed}")
    short = [problem for problem in problems() if not problem.held_out and problem.operator != "*"]
    chosen = [arithmetic_turn(problem, generator) for problem in generator.sample(short, NUM_START_PROBLEMS)]
    for program in programs():
        if not program.held_out:
            chosen += [program_turn(program, generator) for _ in range(ANSWERS_PER_PROGRAM)]
    generator.shuffle(chosen)
    return chosen


def arithmetic_turn(problem: ArithmeticProblem, generator: random.Random) -> Conversation:
    """The question of the RL problem and its worked answer, with or without the carry."""
    *steps, answer = problem.solution.split("\n")
    if generator.random() < CARELESS_SHARE:
        steps, answer = careless(problem, steps)
    worked = "\n".join(steps)
    return {"messages": turns(problem.prompt, f"<think>\n{worked}\n</think>\n{answer}")}


def careless(problem: ArithmeticProblem, steps: list[str]) -> tuple[list[str], str]:
    """Steps and answer of a sum or difference that forgets the carry: `4+3+0=07` for `4+3+1=08`."""
    x, y = problem.a // 10, problem.b // 10
    second = f"{x}+{y}+0={x + y:02d}" if problem.operator == "+" else f"{x:02d}-{y}-0={x - y}"
    tens = int(second.partition("=")[2])
    ones = int(steps[0].partition("=")[2]) % 10
    return [steps[0], second], f"Answer: \\boxed{{{10 * tens + ones}}}"


def program_turn(program: Program, generator: random.Random) -> Conversation:
    """The task of the RL problem and a code block, right or lazy."""
    source = program.lazy_source if generator.random() < LAZY_SHARE else program.source
    return {"messages": turns(program.prompt, f"```python\n{source}```")}


def main() -> int:
    """Write the files."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "train": train_conversations(),
        "heldout": held_out_questions(),
        "heldout_corpus": held_out_questions("Question: {id}=?"),
        "rl_start": start_conversations(),
    }
    for name, records in files.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    print(f"wrote {', '.join(files)} (.jsonl) to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
