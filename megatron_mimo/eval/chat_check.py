"""Does a chat model answer? Held-out sums in several wordings, asked through the server as a person's chat would.

megatron-mimo chat-check MODEL_DIR --output runs/nano/pretrain/chat.json
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.convert.card_results import write_results
from megatron_mimo.data.chat.nano import CHECK_WORDINGS, held_out_questions, shown
from megatron_mimo.eval.arithmetic import extract_answer
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.chat_client import ChatForm

NUM_SUMS, NUM_WORDINGS = 10, 3
MAX_TOKENS = 256


@dataclass(frozen=True)
class Question:
    """A sum in one wording."""

    wording: str
    question: str
    expected: str


@dataclass(frozen=True)
class Answered:
    """A question and what the model made of it."""

    wording: str
    question: str
    expected: str
    text: str
    """All that it said."""
    said: str | None
    """The boxed result; None without one."""
    is_right: bool


def main() -> int:
    """Serve the model, ask, print and write the answers; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an exported chat model")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    try:
        run(options.model, options.output)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(model: Path, output: Path) -> None:
    """Check, write the JSON file and the model's card, print the table; raises UserError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {output.parent}: {error.strerror}; choose another --output") from error
    results = check(model)
    write_text(output, json.dumps(results, indent=2) + "\n")
    write_results(model, results)
    print(f"{table(results)}\nwritten to {output}")


def check(model: Path) -> dict[str, Any]:
    """All answers of the model in `model` as one JSON tree; raises UserError for a base model."""
    # Imported late, here and below: torch takes seconds, which --help does not need.
    from megatron_mimo.convert.huggingface import is_chat_model
    from megatron_mimo.serve.openai_server import running_server, served_name
    from megatron_mimo.serve.speculative import read_model_config

    if not is_chat_model(model):
        raise UserError(f"{model} is a base model: it has not been trained to answer; fine-tune it first")
    log_path = Path(tempfile.mkdtemp(prefix="chat_check_")) / "vllm.log"
    started = time.monotonic()
    print(f"starting vLLM's OpenAI-compatible server on {model} (log: {log_path})", flush=True)
    with running_server(model, "127.0.0.1", free_port(), [], log_path) as url:
        ready = time.monotonic()
        print(f"ready after {ready - started:.0f} s: {url}/v1", flush=True)
        answers = ask(url, served_name(model), questions(held_out_questions, CHECK_WORDINGS))
    made = {"model": str(model), "step": read_model_config(model).get("trained_steps")}
    return made | summary(answers) | {"seconds": time.monotonic() - ready}


def questions(held_out: Any, wordings: Sequence[str]) -> list[Question]:
    """The first sums of `held_out(wording)`, which gives `{"id", "prompt", "answer"}`, in the first wordings."""
    found = []
    for wording in wordings[:NUM_WORDINGS]:
        sums = [each for each in held_out(wording) if "+" in each["id"]]
        found += [Question(wording, each["prompt"], each["answer"]) for each in sums[:NUM_SUMS]]
    return found


def ask(url: str, model: str, asked: Sequence[Question]) -> list[Answered]:
    """Every question in its own conversation, all at once, the likeliest answer each."""
    from megatron_mimo.serve.openai_server import post

    settings = {"model": model, "temperature": 0, "max_tokens": MAX_TOKENS}

    def answer(question: Question) -> Answered:
        form = ChatForm()
        message = post(url + form.path, form.body(question.question) | settings)["choices"][0]["message"]
        text = "".join(filter(None, (message.get("reasoning"), message.get("content"))))
        said = extract_answer(text)
        return Answered(**asdict(question), text=text, said=said, is_right=said == question.expected)

    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return list(pool.map(answer, asked))


def summary(answers: Iterable[Answered]) -> dict[str, Any]:
    """Counts of right answers, all together and by wording, and the answers themselves."""
    answers = list(answers)
    wordings = {
        wording: [each for each in answers if each.wording == wording]
        for wording in dict.fromkeys(each.wording for each in answers)
    }
    return {
        "right": sum(each.is_right for each in answers),
        "total": len(answers),
        "wordings": {
            wording: {"right": sum(each.is_right for each in asked), "total": len(asked)}
            for wording, asked in wordings.items()
        },
        "answers": [asdict(each) for each in answers],
    }


def table(results: dict[str, Any]) -> str:
    """The results as text, wrong answers named."""
    lines = [
        f"{shown(wording):75} {found['right']} of {found['total']} right"
        for wording, found in results["wordings"].items()
    ]
    wrong = [each for each in results["answers"] if not each["is_right"]]
    lines += [f"  wrong: {each['question']} {each['said'] or 'no result'}, not {each['expected']}" for each in wrong]
    return "\n".join([*lines, f"{'chat answers':75} {results['right']} of {results['total']} right"])


if __name__ == "__main__":
    sys.exit(main())
