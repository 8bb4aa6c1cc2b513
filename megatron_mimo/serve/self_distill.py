"""A model's own answers to prompts, as conversations to fine-tune its MTP layers on (self-distillation, FastMTP).

MTP layers predict what the main model says, not what a good text says: trained on the model's own answers they are
accepted more often. Answers go to a journal, `JOURNAL`, one by one: a run that is stopped or killed goes on where it
was, and asks nothing twice. The conversations are written whole at the end.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.clients.endpoint import Endpoint, EndpointConfig, Message, RequestFailed, Sampling
from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.errors import require_at_least
from megatron_mimo.data.chat.records import read_records as read_chat_records
from megatron_mimo.platform.concurrency import for_each
from megatron_mimo.platform.files import write_json, write_text

ANSWERS, JOURNAL, RUN = "answers.jsonl", "journal.jsonl", "run.json"
FINGERPRINT_BYTES = 1 << 20
"""Of each file: more than its header, which names the tensors."""
Report = Callable[[int, int], None]
"""Called with answers so far, and those wanted."""


@dataclass(frozen=True, kw_only=True)
class SelfDistillConfig:
    """What is asked, and of whom."""

    prompts: list[str]
    """Files of conversations, whose last answer is left out, or of records with a `prompt`."""
    output: str
    """Folder of the journal and the conversations; an existing one is continued."""
    endpoint: EndpointConfig
    """The server that runs the model."""
    model: str
    """What the answers are of: a path or a name. A folder holds answers of one model."""
    weights: str = ""
    """Fingerprint of its weights (`fingerprint`), so that a model trained on is another one; empty: not known."""
    sampling: Sampling = field(default_factory=Sampling)
    """As the model will be used."""
    samples_per_prompt: int = 1
    keep_cut: bool = False
    """Keep answers that reached max_tokens. Off: their end, which a conversation would add, is none of the model's."""

    def __post_init__(self) -> None:
        require_at_least(1, "self_distill", samples_per_prompt=self.samples_per_prompt)
        if not self.prompts:
            raise ConfigError("prompts", [], "name at least one file")


@dataclass(frozen=True)
class DistilledQuestion:
    """One answer that is wanted."""

    id: str
    messages: list[Message]
    sample: int


def self_distill(config: SelfDistillConfig, report: Report | None = None) -> Counter[str]:
    """Ask what is not answered yet, and write OUTPUT/answers.jsonl.

    Returns counts: answers that were written; those cut at max_tokens; prompts that the server refused; requests that
    the next run asks again (`unanswered`); prompts that occurred before (`repeated`), which are asked once.
    Raises UserError for prompts that cannot be read, a folder of other answers, and an endpoint that answers nobody.
    """
    folder = Path(config.output)
    questions, repeated = read_questions(config.prompts, config.samples_per_prompt)
    check_same_run(config, folder)
    unanswered = asyncio.run(_ask_all(questions, config, folder / JOURNAL, report))
    counts = write_answers(questions, folder, config.keep_cut)
    counts["unanswered"], counts["repeated"] = unanswered, repeated
    return counts


def num_open(paths: Sequence[str], samples_per_prompt: int, output: str) -> int:
    """Answers that a run would still ask for; raises UserError for prompts that cannot be read."""
    journal = Path(output) / JOURNAL
    done = {record["id"] for record in read_records(journal)} if journal.is_file() else set()
    return sum(question.id not in done for question in read_questions(paths, samples_per_prompt)[0])


def read_questions(paths: Sequence[str], samples_per_prompt: int) -> tuple[list[DistilledQuestion], int]:
    """The first answer wanted to every prompt, then the second, ...; and how many records repeated a prompt.

    Raises UserError for records that ask nothing, and where there is none.
    """
    prompts, repeated = read_prompts(paths)
    if not prompts:
        raise UserError(f"{', '.join(paths)}: no prompt in it")
    samples = range(samples_per_prompt)
    return [
        DistilledQuestion(f"{name}#{n}", messages, n) for n in samples for name, messages in prompts.items()
    ], repeated


def read_prompts(paths: Sequence[str]) -> tuple[dict[str, list[Message]], int]:
    """Messages by the hash of their content, in the files' order, and how many records repeated one of them."""
    prompts: dict[str, list[Message]] = {}
    number = 0
    for path in paths:
        for place, record in read_chat_records(Path(path)):
            messages = prompt_messages(place, record)
            prompts.setdefault(hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:24], messages)
            number += 1
    return prompts, number - len(prompts)


def prompt_messages(place: str, record: Any) -> list[Message]:
    """The messages before the last answer of a record; raises UserError for one without a question."""
    if isinstance(record, dict) and isinstance(record.get("prompt"), str):
        return [{"role": "user", "content": record["prompt"]}]
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list):
        raise UserError(f"{place}: neither `messages` nor a `prompt`, which self-distillation asks")
    turns = [turn for turn in messages if isinstance(turn, dict)]
    while turns and turns[-1].get("role") == "assistant":
        turns.pop()
    simple = all(isinstance(turn.get("content"), str) and "role" in turn for turn in turns)
    if len(turns) < len([*messages]) - 1 or not simple or not turns or turns[-1]["role"] != "user":
        raise UserError(f"{place}: self-distillation asks conversations of plain texts that end with the user's turn")
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def check_same_run(config: SelfDistillConfig, folder: Path) -> None:
    """Answers of another model or sampling must not end up among these: raises UserError."""
    identity = {"model": config.model, "weights": config.weights, "sampling": asdict(config.sampling)}
    identity = json.loads(json.dumps(identity))  # as it is read back: JSON knows no tuples
    path = folder / RUN
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in identity.items() if before.get(name) != value]
        if changed:
            raise UserError(f"{folder} holds answers made with another {changed[0]}: choose another --output")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


def fingerprint(folder: Path) -> str:
    """Hash of the beginnings of an exported model's weight files, names and sizes: further training changes it."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:24]


def write_answers(questions: Sequence[DistilledQuestion], folder: Path, keep_cut: bool) -> Counter[str]:
    """Conversations in the order of the questions, from the journal."""
    journal = {record["id"]: record for record in read_records(folder / JOURNAL)}
    counts: Counter[str] = Counter(answers=0, cut=0, refused=0)
    lines = []
    for question in questions:
        record = journal.get(question.id)
        if record is None:
            continue
        if "error" in record:
            counts["refused"] += 1
            continue
        is_cut = record["finish_reason"] == "length"
        counts["cut"] += is_cut
        if is_cut and not keep_cut:
            continue
        counts["answers"] += 1
        messages = [*question.messages, {"role": "assistant", "content": record["text"]}]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    write_text(folder / ANSWERS, "".join(lines))
    return counts


async def _ask_all(
    questions: Sequence[DistilledQuestion], config: SelfDistillConfig, path: Path, report: Report | None
) -> int:
    """Fill the journal with as many requests at a time as the endpoint takes; returns how many got no answer."""
    unanswered = 0
    with Journal(path) as journal:
        todo = [question for question in questions if question.id not in journal.ids]
        async with Endpoint(config.endpoint) as endpoint:

            async def ask(question: DistilledQuestion) -> None:
                nonlocal unanswered
                try:
                    answer = await endpoint.chat(question.messages, config.sampling, seed=question.sample)
                    journal.append({"id": question.id, "text": answer.text, "finish_reason": answer.finish_reason})
                except RequestFailed as error:
                    unanswered += not error.final
                    if error.final:
                        journal.append({"id": question.id, "error": error.reason})
                if report is not None:
                    report(len(journal.ids), len(questions))

            await for_each(todo, ask, config.endpoint.max_concurrent_requests)
    return unanswered
