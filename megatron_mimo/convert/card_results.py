"""Evaluation results in a model card: the section that export, evaluation and chat check write."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron_mimo.data.chat.nano import shown
from megatron_mimo.platform.files import write_text

KINDS = {"all": "all", "+": "sums", "-": "differences", "*": "products"}
CHAT_RESULTS = ("wordings", "answers", "right", "total")
PLACE = "\n## Made with\n"
"""The card's last heading: sections of results come before it."""


def write_results(model: Path, results: dict[str, Any]) -> None:
    """Put the section of `results` into the card of an exported model, in place of an older one."""
    card = model / "README.md"
    if card.is_file():
        write_text(card, with_results(card.read_text(encoding="utf-8"), results))


def write_benchmarks(model: Path, results: dict[str, Any]) -> str:
    """Put an evaluation into the card of a folder that this program has exported; returns what became of it, in words.

    Empty for an address, and for folders of other makers, whose card is theirs.
    """
    card = model / "README.md"
    if not card.is_file() or PLACE not in card.read_text(encoding="utf-8", errors="replace"):
        return ""
    try:
        write_results(model, {"benchmarks": results})
    except OSError as error:
        return f"card:    {card} was not changed ({error.strerror})"
    return f"card:    {card}"


def read_results(output_dir: Path, step: int) -> dict[str, Any]:
    """A run folder's evaluation.json and chat.json, as far as they are of the checkpoint of this step."""
    found: dict[str, Any] = {}
    for name in ("evaluation.json", "chat.json"):
        path = output_dir / name
        try:
            tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError:
            continue  # the report refuses it; a card does without
        if isinstance(tree, dict) and tree.get("step") == step:
            found |= tree
    return found


def with_results(card: str, results: dict[str, Any]) -> str:
    """The card with a section for each kind of result that is in `results`."""
    for title, write in SECTIONS.items():
        lines = write(results)
        if lines:
            card = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL)
            section = "\n".join([f"\n## {title}\n", *lines, ""])
            before, place, after = card.rpartition(PLACE)
            card = f"{before}{section}{place}{after}" if place else card + section
    return card


def _bits_per_byte(results: dict[str, Any]) -> list[str]:
    methods = results.get("bits_per_byte", {})
    sources = list(dict.fromkeys(source for row in methods.values() for source in row))
    rows = [
        [
            name if name != "model" else "this model",
            *(f"{row[source]:.3f}" if source in row else "" for source in sources),
        ]
        for name, row in methods.items()
    ]
    return _table(["", *sources], rows)


def _problems(results: dict[str, Any]) -> list[str]:
    rows = [
        [KINDS.get(kind, kind), f"{row['correct']} of {row['total']}", f"{row['accuracy']:.1%}", _interval(row)]
        for kind, row in results.get("arithmetic", {}).items()
    ]
    return _table(["kind", "solved", "share", "95 % interval"], rows)


def _drafts(results: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{row['acceptance_rate']:.1%}", f"{row['draft_tokens']}"]
        for name, row in results.get("speculation", {}).items()
        if row["acceptance_rate"] is not None
    ]
    return _table(["text", "accepted", "of drafts"], rows)


def _chat(results: dict[str, Any]) -> list[str]:
    rows = [
        [shown(wording), f"{found['right']} of {found['total']}"]
        for wording, found in results.get("wordings", {}).items()
    ]
    return _table(["question", "right"], rows)


def _benchmarks(results: dict[str, Any]) -> list[str]:
    """Every task of an evaluation (eval/summary.py), and how it was asked."""
    evaluation = results.get("benchmarks", {})
    tasks = evaluation.get("tasks", {})
    rows = [_benchmark_row(name, task) for name, task in tasks.items() if task.get("score") is not None]
    heads = ["task", "score", "95 % interval", "problems x answers", "new tokens", "cut at the length"]
    if not rows:
        return []
    asked = f"Asked with the template `{evaluation['template']}` and seed {evaluation['seed']}"
    missing = sum(task.get("missing", 0) for task in tasks.values())
    lack = f" {missing:,} answers are missing: INCOMPLETE." if missing else ""
    return [
        f"{asked}, by `megatron-mimo evaluate`; a score is the mean over all answers.{lack}",
        "",
        *_table(heads, rows),
    ]


def _benchmark_row(name: str, task: dict[str, Any]) -> list[str]:
    """One task; what its record does not hold (another harness's) stays empty."""
    has_interval = task.get("low") is not None and task.get("high") is not None
    return [
        name,
        f"{task['score']:.1%}",
        _interval(task) if has_interval else "",
        f"{task['problems']:,} x {task['repetitions']}" if "problems" in task else "",
        f"{task['max_tokens']:,}" if task.get("max_tokens") else "",
        f"{task['truncated']:.1%}" if task.get("truncated") is not None else "",
    ]


SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "Held-out bits per byte": _bits_per_byte,
    "Held-out problems solved": _problems,
    "Drafts of the MTP layer accepted by vLLM": _drafts,
    "Held-out sums answered in a chat": _chat,
    "Benchmarks": _benchmarks,
}


def _interval(row: dict[str, Any]) -> str:
    return f"{row['low']:.1%} to {row['high']:.1%}"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown lines; none without rows."""
    rule = "|".join("---" for _ in heads)
    return [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)] if rows else []
