"""What a run's model can do, for its report: bits per byte, problems, drafts, samples of text, chat answers.

Reads `evaluation.json` (of `megatron_mimo/eval/pretraining.py`) and `chat.json` (of `megatron_mimo/eval/chat_check.py`)
of the run folder; parts that are not there are left out, parts that this module does not know are shown as they are.
"""

import json
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.platform import page

KINDS = {"all": "all", "+": "sums", "-": "differences", "*": "products"}
KNOWN = ("bits_per_byte", "held_out_bytes", "arithmetic", "problems_in_training_text", "speculation", "samples")
MODEL = "model"
BITS_NOTE = (
    "How many bits the model needs, on average, to write down one byte (about one letter) of text that it was not"
    " trained on. Text as it is takes 8; fewer is better. Kneser-Ney is a classical language model that counts what"
    " follows the last letters; gzip, xz and zstd are compression programs, and one of them may look things up in the"
    " training text. The star marks the best of each column."
)
PROBLEMS_NOTE = (
    "Arithmetic problems that were held back from training, each answered once. From so few problems the true share is"
    " known only roughly: it lies in the interval in 95 of 100 cases."
)
DRAFTS_NOTE = (
    "The MTP layer guesses the token after the next one. A guess that the main model would have made itself is accepted"
    " and saves a step; the text stays the same."
)
SAMPLES_NOTE = "The beginning, in grey, is from held-out text; the model wrote the rest, the likeliest token each time."
CHAT_NOTE = "The fine-tuned model's answers to sums that neither training has seen, each asked in several wordings."
TILE_NOTES = {
    "bits per byte": "Of held-out text, by the model; 8 without any knowledge, fewer is better.",
    "best baseline": "The lowest bits per byte of the compression programs and the counting model.",
    "problems solved": "Held-out arithmetic problems with the right answer.",
    "drafts accepted": "Guesses of the MTP layer that were right; each saves a step.",
    "chat answers right": "Sums asked in a conversation with the fine-tuned model.",
}


def read_results(output_dir: Path) -> dict[str, Any]:
    """evaluation.json with chat.json under `chat`; empty without either. Raises UserError for a broken file."""
    evaluation, chat = (_read(output_dir / name) for name in ("evaluation.json", "chat.json"))
    return evaluation | ({"chat": chat} if chat else {})


def result_tiles(results: dict[str, Any]) -> str:
    """The few numbers that say whether it worked."""
    figures: dict[str, str] = {}
    bits = {name: row.get("all") for name, row in results.get("bits_per_byte", {}).items()}
    others = {name: value for name, value in bits.items() if name != MODEL and value is not None}
    if bits.get(MODEL) is not None:
        figures["bits per byte"] = f"{bits[MODEL]:.3f}"
    if others:
        figures["best baseline"] = f"{min(others.values()):.3f}"
    if solved := results.get("arithmetic", {}).get("all"):
        figures["problems solved"] = _of(solved["correct"], solved["total"])
    if (drafts := results.get("speculation", {}).get("all")) and drafts["draft_tokens"]:
        figures["drafts accepted"] = page.percent(drafts["acceptance_rate"])
    if chat := results.get("chat"):
        figures["chat answers right"] = _of(chat["right"], chat["total"])
    return page.tiles(figures, TILE_NOTES) if figures else ""


def result_sections(results: dict[str, Any]) -> list[str]:
    """A section for each kind of result."""
    rest = {name: value for name, value in results.items() if name not in (*KNOWN, "chat")}
    trees = {name: value for name, value in rest.items() if isinstance(value, dict | list)}
    scalars = {name: value for name, value in rest.items() if name not in trees}
    others = [page.titled(name.replace("_", " "), page.nested(value)) for name, value in trees.items()]
    return [
        _bits_per_byte(results),
        _problems(results),
        _drafts(results),
        _samples(results),
        _chat(results.get("chat", {})),
        page.section("About this evaluation", page.cards(page.pairs(scalars), *others)),
    ]


def _bits_per_byte(results: dict[str, Any]) -> str:
    methods = results.get("bits_per_byte", {})
    sources = list(dict.fromkeys(source for row in methods.values() for source in row))
    sizes = results.get("held_out_bytes", {})
    rows = [{"": "this model" if name == MODEL else name} | row for name, row in methods.items()]
    notes = {source: f"{sizes[source]:,} bytes of held-out text" for source in sources if source in sizes}
    table = page.table(page.mark_best(rows, sources, decimals=3), notes=notes)
    return page.section("Bits per byte of held-out text", page.cards(table) if table else "", note=BITS_NOTE)


def _problems(results: dict[str, Any]) -> str:
    rows = [
        {
            "kind": KINDS.get(kind, kind),
            "solved": f"{row['correct']:,} of {row['total']:,}",
            "share": page.percent(row["accuracy"]),
            "95 % interval": f"{page.percent(row['low'])} to {page.percent(row['high'])}",
        }
        for kind, row in results.get("arithmetic", {}).items()
    ]
    seen = results.get("problems_in_training_text")
    known = "" if seen is None else f" Of these problems, {seen:,} stand in the training text."
    return page.section("Problems solved", page.cards(page.table(rows)) if rows else "", note=PROBLEMS_NOTE + known)


def _drafts(results: dict[str, Any]) -> str:
    rows = [
        {
            "text": name,
            "accepted": page.percent(row["acceptance_rate"]),
            "drafts": f"{row['accepted_tokens']:,} of {row['draft_tokens']:,}",
            "tokens/s": f"{row['tokens_per_second']:,.0f}",
        }
        for name, row in results.get("speculation", {}).items()
    ]
    notes = {"tokens/s": "Tokens that vLLM wrote per second, all prompts of the group at once, drafts included."}
    table = page.table(rows, notes=notes)
    return page.section("Drafts of the MTP layer accepted", page.cards(table) if table else "", note=DRAFTS_NOTE)


def _samples(results: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for sample in results.get("samples", []):
        groups.setdefault(sample["group"], []).append(page.text_sample(sample["prompt"], sample["continuation"]))
    cards = [page.titled(group, "".join(texts)) for group, texts in groups.items()]
    return page.section("Samples of text", page.cards(*cards) if cards else "", note=SAMPLES_NOTE)


def _chat(chat: dict[str, Any]) -> str:
    rows = [
        {
            "question": each["question"],
            "answer": page.Cell(each["said"] or "none", "good" if each["is_right"] else "bad"),
            "expected": each["expected"],
            "": "right" if each["is_right"] else "wrong",
        }
        for each in chat.get("answers", [])
    ]
    if not rows:
        return ""
    example = next((each for each in chat["answers"] if each["is_right"]), chat["answers"][0])
    whole = page.text_sample(f"{example['question']}\n", example["text"])
    score = f"{chat['right']:,} of {chat['total']:,} answers are right."
    return page.section(
        "Chat answers",
        page.cards(page.table(rows), page.titled("One answer in full", whole)),
        note=f"{CHAT_NOTE} {score}",
    )


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): evaluate the model again, or remove the file") from error
    return tree if isinstance(tree, dict) else {"results": tree}
