"""Generated conversations for MiMo-nano: `python -m megatron_mimo.data.chat.nano FOLDER`.

`train.jsonl` asks the arithmetic problems of the embedded corpus in many wordings and answers with the worked steps in
a think block and the result in a box; `heldout.jsonl` holds, with their answers, problems that no split trains on.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.data.corpus_arithmetic import Problem, problems
from megatron_mimo.platform.files import write_text

WORDINGS = ("What is {id}?", "Please work out {id}.", "{id}=?", "Compute {id} for me.", "How much is {id}?")
SYSTEM = "Answer with the result in a box."
SYSTEM_SHARE = 0.2


def conversation(problem: Problem, generator: random.Random) -> dict[str, Any]:
    """One question and its worked answer."""
    *steps, answer = problem.solution.split("\n")
    worked = "\n".join(steps)
    asked = generator.choice(WORDINGS).format(id=problem.id)
    system = [{"role": "system", "content": SYSTEM}] if generator.random() < SYSTEM_SHARE else []
    response = f"<think>\n{problem.prompt}{worked}\n</think>\n{answer}"
    return {"messages": [*system, {"role": "user", "content": asked}, {"role": "assistant", "content": response}]}


def train_conversations(seed: int = 0) -> Iterator[dict[str, Any]]:
    """One conversation a problem that is not held out, shuffled."""
    generator = random.Random(seed)
    chosen = [problem for problem in problems() if not problem.held_out]
    generator.shuffle(chosen)
    return (conversation(problem, generator) for problem in chosen)


def held_out_questions() -> Iterator[dict[str, str]]:
    """`{"id", "prompt", "answer"}` of every held-out problem."""
    for problem in problems():
        if problem.held_out:
            yield {"id": problem.id, "prompt": WORDINGS[0].format(id=problem.id), "answer": str(problem.answer)}


def main() -> int:
    """Write both files."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("train", train_conversations()), ("heldout", held_out_questions())):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    print(f"wrote {folder}/train.jsonl and {folder}/heldout.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
