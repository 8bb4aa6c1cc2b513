"""Two evaluations against each other, paired by problem, and beside the published tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.eval import flips, published
from megatron_mimo.eval.estimators import compare
from megatron_mimo.platform.page import escape, page, section, table

COMPARED_SETTINGS = (
    "task", "max_tokens", "temperature", "top_p", "runner", "stop", "num_shots", "answer_prefix", "context_tokens",
    "thinking_tokens",
)  # fmt: skip
"""Of a task."""
SHARED_SETTINGS = ("system_prompt", "template", "seed", "seq_length")
"""Of an evaluation."""
SOLVED = 0.5
"""A problem is solved where at least half of its answers are right."""


def read_results(path: Path) -> dict[str, Any]:
    """results.json of an evaluation's folder, or the file itself. Raises UserError where there is none."""
    file = path / "results.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        _ = results["tasks"], results["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} holds no results of an evaluation: run megatron-mimo evaluate first") from error
    return results


def compare_results(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every task of both: scores in percent, difference, interval, p-value, what qualifies them.

    Raises UserError when they share no task.
    """
    shared = [name for name in first["tasks"] if name in second["tasks"]]
    if not shared:
        raise UserError(f"{first['model']} and {second['model']} have no task in common")
    notes = [f"different {key}" for key in SHARED_SETTINGS if first.get(key) != second.get(key)]
    return [compare_task(name, first["tasks"][name], second["tasks"][name], notes) for name in shared]


def compare_task(name: str, first: dict[str, Any], second: dict[str, Any], notes: Sequence[str] = ()) -> dict[str, Any]:
    """One row; problems that only one side has answered are left out and counted."""
    shared = sorted(first["scores"].keys() & second["scores"].keys())
    left_out = len(first["scores"].keys() ^ second["scores"].keys())
    notes = [*notes, *(f"different {key}" for key in COMPARED_SETTINGS if first.get(key) != second.get(key))]
    notes += [f"{left_out} problems unpaired"] if left_out else []
    notes += ["incomplete"] if first["missing"] or second["missing"] else []
    if not shared:
        return {"task": name, "problems": 0, "note": "; ".join([*notes, "no problem in common"])}
    ours, theirs = ([side["scores"][problem] for problem in shared] for side in (first, second))
    found = compare(ours, theirs)
    return {
        "task": name,
        "problems": len(shared),
        "repetitions": f"{first['repetitions']} and {second['repetitions']}",
        "first": percent(mean(ours)),
        "second": percent(mean(theirs)),
        "difference": percent(found.difference.value),
        "low": percent(found.difference.low),
        "high": percent(found.difference.high),
        "p_value": found.p_value,
        "gained": len(flipped(first, second)["gained"]),
        "lost": len(flipped(first, second)["lost"]),
        "truncated_first": percent(first["truncated"]),
        "truncated_second": percent(second["truncated"]),
        "in_format_first": percent(first.get("in_format")),
        "in_format_second": percent(second.get("in_format")),
        "note": "; ".join(notes),
    }


def flipped(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[str]]:
    """Problems that the second alone solves (`gained`), the first alone (`lost`), and neither (`unsolved`)."""
    kinds: dict[str, list[str]] = {"gained": [], "lost": [], "unsolved": []}
    for problem in first["scores"]:
        if problem in second["scores"]:
            was, now = (mean([side["scores"][problem]]) >= SOLVED for side in (first, second))
            kind = {(False, True): "gained", (True, False): "lost", (False, False): "unsolved"}.get((was, now))
            kinds.get(kind or "", []).append(problem)
    return kinds


def mean(scores: Sequence[Sequence[float]]) -> float:
    return sum(sum(one) / len(one) for one in scores) / len(scores)


def percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def comparison_text(rows: list[dict[str, Any]], first: str, second: str) -> str:
    """The rows for the terminal."""
    lines = [f"first: {first}   second: {second}   (difference is second - first, 95 % paired bootstrap)"]
    lines.append(
        f"{'task':24} {'n':>5} {'first':>7} {'second':>7} {'diff':>7} {'95 % interval':>18} {'p':>7}"
        f" {'gained':>7} {'lost':>5} {'think + answer':>16}"
    )
    for row in rows:
        if not row["problems"]:
            lines.append(f"{row['task']:24} {row['note']}")
            continue
        interval = f"{row['low']:+.1f} to {row['high']:+.1f}"
        formats = [row["in_format_first"], row["in_format_second"]]
        in_format = " to ".join("-" if share is None else f"{share:.1f}" for share in formats)
        lines.append(
            f"{row['task']:24} {row['problems']:5} {row['first']:7.1f} {row['second']:7.1f} {row['difference']:+7.1f} "
            f"{interval:>18} {row['p_value']:7.4f} {row['gained']:>7} {row['lost']:>5} {in_format:>16} {row['note']}"
        )
    return "\n".join(lines)


def reference_table(figures: published.Figures, evaluations: Sequence[dict[str, Any]]) -> str:
    """Published columns, then one column an evaluation; rows that nobody here has run stay, their cells empty."""
    rows = []
    for task, row in figures.items():
        cells: dict[str, Any] = {"benchmark": published.ROWS[task]} | row
        for place, evaluation in enumerate(evaluations, start=1):
            cells[f"[{place}] {evaluation['model']}"] = cell(evaluation["tasks"].get(task))
        rows.append(cells)
    return table(rows)


def cell(task: dict[str, Any] | None) -> str | None:
    """`95.8 (94.0 to 97.2)`, in percent."""
    if task is None or task["score"] is None:
        return None
    mark = " incomplete" if task["missing"] else ""
    return f"{100 * task['score']:.1f} ({100 * task['low']:.1f} to {100 * task['high']:.1f}){mark}"


def reference_sections(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """Both published tables with one's own columns."""
    note = (
        "Percent, pass@1 as the mean over repetitions; in brackets the 95 % interval. Published columns are "
        "references, not measured here; a dash was not published or not run."
    )
    return [
        section("Beside other models", reference_table(published.others(), evaluations), note=note),
        section("The MiMo-7B series", reference_table(published.series(), evaluations), note=note),
    ]


def comparison_page(first: dict[str, Any], second: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The HTML page of a comparison."""
    title = f"{first['model']} and {second['model']}"
    note = (
        "Difference is second minus first in percent points with its 95 % interval (bootstrap over problems, paired); "
        "the p-value is that of a sign-flip permutation test. Of many tasks, one in twenty is below 0.05 by chance."
    )
    body = [f"<h1>{escape(title)}</h1>", section("Paired comparison", table(rows), note=note)]
    sides = flips.sections(first, second, {name: flipped(*both) for name, both in shared_tasks(first, second).items()})
    return page(title, [*body, *sides, *reference_sections([first, second])])


def shared_tasks(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    return {name: (task, second["tasks"][name]) for name, task in first["tasks"].items() if name in second["tasks"]}
