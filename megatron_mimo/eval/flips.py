"""Problems that one of two models solves and the other does not, both answers side by side."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from megatron_mimo.clients.journal import read_records
from megatron_mimo.config import UserError
from megatron_mimo.eval.cache import grade_id
from megatron_mimo.platform.page import escape, filtered, section

SHOWN = 200
"""Problems a task and kind."""
KINDS = {"gained": "the second alone is right", "lost": "the first alone is right", "unsolved": "both are wrong"}
STYLE = (
    "<style>.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:10px}"
    ".items details{border-bottom:1px solid var(--rule);padding:.4rem 0}.items pre{white-space:pre-wrap;"
    "overflow-wrap:anywhere}</style>"
)


def sections(first: dict[str, Any], second: dict[str, Any], flips: dict[str, dict[str, list[str]]]) -> Iterable[str]:
    """One section for each task whose answers are still on the disk; the others are named."""
    for name, kinds in flips.items():
        try:
            sides = [answers(side["tasks"][name]) for side in (first, second)]
            asked = problems(first["tasks"][name])
        except (UserError, OSError, KeyError) as error:
            yield section(f"{name}: answers", f"<p>not shown: {escape(error)}</p>")
            continue
        names = [first["model"], second["model"]]
        items = [
            item(kind, problem, asked.get(problem, {}), names, [side.get(problem) for side in sides])
            for kind, found in kinds.items()
            for problem in found[:SHOWN]
        ]
        counts = {kind: f"{words} ({len(kinds[kind])})" for kind, words in KINDS.items()}
        note = f"The first answer of each to a problem; at most {SHOWN} problems of a kind."
        yield section(f"{name}: answers", STYLE, filtered(items, counts, name), note=note) if items else ""


def answers(task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The first stored answer to every problem, with its grade."""
    grades = {record["id"]: record for record in read_records(Path(task["grades_file"]))}
    found: dict[str, dict[str, Any]] = {}
    for sample in read_records(Path(task["answers_file"])):
        if sample["repetition"] == 0:
            found[sample["problem"]] = sample | {"grade": grades.get(grade_id(sample["id"], sample["response"]))}
    return found


def problems(task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in read_records(Path(task["problems_file"]))}


def item(kind: str, problem: str, asked: dict[str, Any], names: list[str], sides: list[dict[str, Any] | None]) -> str:
    """A problem, folded: question, reference, and the two answers beside each other."""
    columns = "".join(f"<div><h3>{escape(name)}</h3>{one(side)}</div>" for name, side in zip(names, sides, strict=True))
    question = f"<h3>Asked</h3><pre>{escape(asked.get('asked', ''))}</pre>"
    reference = f"<h3>Reference</h3><pre>{escape(asked.get('reference', ''))}</pre>"
    head = f"{problem}: {KINDS[kind]}"
    body = f'{question}{reference}<div class="sides">{columns}</div>'
    return f'<details class="{kind}"><summary>{escape(head)}</summary>{body}</details>'


def one(side: dict[str, Any] | None) -> str:
    if side is None:
        return "<p>no answer</p>"
    grade = side["grade"]
    verdict = "not graded" if grade is None else f"{grade['verdict']}: {grade['answer'] or 'nothing readable'}"
    return f"<p>{escape(verdict)}</p><pre>{escape(side['response'])}</pre>"
