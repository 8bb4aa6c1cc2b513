"""The HTML report: a page of results, and pages where every answer can be read with its grade."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.eval.cache import grade_id, shown_question
from megatron_mimo.eval.compare import reference_sections
from megatron_mimo.eval.run import TaskRun
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.page import escape, filtered, page, pairs, section, table, tiles

ANSWERS_PER_PAGE = 200
STYLE = "<style>details{border-bottom:1px solid var(--rule);padding:.4rem 0} pre{white-space:pre-wrap}</style>"


def write_report(folder: Path, results: dict[str, Any], runs: list[TaskRun]) -> Path:
    """Write index.html and the answers' pages under `folder`; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    links = {run.config.title: write_answers(folder, results, run) for run in runs}
    index = folder / "index.html"
    write_text(index, index_page(results, links), errors="replace")
    return index


def index_page(results: dict[str, Any], links: dict[str, list[str]]) -> str:
    """Results, settings, pass@k, groups, and links to the answers."""
    settings = {key: results[key] for key in ("model", "identity", "seed", "template", "system_prompt")}
    answers = sum(task["answers"] for task in results["tasks"].values())
    missing = sum(task["missing"] for task in results["tasks"].values())
    figures = {"tasks": str(len(links)), "answers": f"{answers:,}", "missing answers": f"{missing:,}"}
    parts = [f"<h1>{escape(results['model'])}</h1>", tiles(figures)]
    parts.append(section("Results", table([result_row(name, task) for name, task in results["tasks"].items()])))
    note = (
        "Truncated answers count as they stand in `score`, and not at all in `score of finished`; `clean score` is "
        "that of problems that do not stand in the training data, where `contamination` names it."
    )
    rows = [quality_row(name, task) for name, task in results["tasks"].items()]
    parts.append(section("What qualifies the scores", table(rows), note=note))
    curves = [{"task": name} | curve_row(task) for name, task in results["tasks"].items() if task["repetitions"] > 1]
    parts.append(section("pass@k", table(curves), note="Unbiased estimate; an answer counts at score 1."))
    for name, task in results["tasks"].items():
        rows = [{"group": group} | row for group, row in task["groups"].items()]
        parts.append(section(f"{name}: groups", table(rows)) if rows else "")
    parts.append(section("Answers", *(link_line(name, files) for name, files in links.items())))
    parts += reference_sections([results])
    parts.append(section("Settings", pairs(settings)))
    return page(f"Evaluation of {results['model']}", parts)


def result_row(name: str, task: dict[str, Any]) -> dict[str, Any]:
    shown = ("score", "low", "high", "truncated", "without_answer", "in_format", "in_format_low", "in_format_high")
    percents = {key: None if task[key] is None else f"{100 * task[key]:.1f}%" for key in shown}
    counts = {key: task[key] for key in ("problems", "repetitions", "missing", "refused", "grader_faults")}
    settings = {key: task[key] for key in ("mean_tokens", "max_tokens", "temperature", "top_p", "runner")}
    return {"task": name} | percents | counts | settings


def quality_row(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """What qualifies a score; `-` where a figure was not measured."""
    shares = ("score", "score_of_finished", "clean_score", "truncated", "without_answer")
    percents = {key: None if task[key] is None else f"{100 * task[key]:.1f}%" for key in shares}
    others = {name: f"{100 * score:.1f}%" for name, score in task["details"].items()}
    work = {key: task[key] for key in ("prompt_tokens", "tokens", "seconds_per_answer", "cost")}
    work["contaminated"] = None if task["contaminated"] is None else len(task["contaminated"])
    examples = "; ".join(f"{one['id']}: {one['verdict']}" for one in task["unreadable"][:3])
    return {"task": name} | percents | work | others | {"without an answer, for example": examples}


def curve_row(task: dict[str, Any]) -> dict[str, str]:
    return {f"k = {k}": f"{100 * value:.1f}%" for k, value in task["pass_at_k"].items()}


def link_line(name: str, files: list[str]) -> str:
    links = " ".join(f'<a href="{escape(file)}">{place}</a>' for place, file in enumerate(files, start=1))
    return f"<p>{escape(name)}: page {links}</p>"


def write_answers(folder: Path, results: dict[str, Any], run: TaskRun) -> list[str]:
    """The task's pages of answers, problem by problem; returns their names."""
    answers = sorted(read_answers(run), key=lambda answer: answer["order"])
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in run.config.title)
    names = []
    for start in range(0, len(answers), ANSWERS_PER_PAGE):
        name = f"{stem}-{start // ANSWERS_PER_PAGE + 1}.html"
        title = f"{run.config.title}: answers of {results['model']}"
        items = [answer_item(run, answer) for answer in answers[start : start + ANSWERS_PER_PAGE]]
        body = [f"<h1>{escape(title)}</h1>", filtered(items, {"wrong": "wrong only"})]
        write_text(folder / name, page(title, [STYLE, *body]), errors="replace")
        names.append(name)
    return names


def read_answers(run: TaskRun) -> Iterator[dict[str, Any]]:
    """Stored answers of this run with their grades and their problem's place."""
    grades, wanted = run.store.read_grades(), {job.id for job in run.wanted()}
    places = {problem.id: place for place, problem in enumerate(run.problems)}
    for sample in run.store.read_samples():
        if sample["id"] in wanted:
            order = (places[sample["problem"]], sample["repetition"])
            yield sample | {"order": order, "grade": grades.get(grade_id(sample["id"], sample["response"]))}


def answer_item(run: TaskRun, answer: dict[str, Any]) -> str:
    """One answer, folded: problem, response, reference."""
    problem, grade = run.problems[answer["order"][0]], answer["grade"]
    score = "not graded" if grade is None else f"{grade['score']:.2f} {grade['verdict']}"
    cut = ", truncated" if answer["finish_reason"] == "length" else ""
    head = f"{answer['id']}: {score} ({answer['completion_tokens']} tokens{cut})"
    asked = shown_question(problem)
    parts = {"Asked": asked, "Answer": answer["response"], "Reference": problem.shown}
    if grade is not None:
        parts["Graded"] = grade["answer"] or "nothing of the demanded form"
    body = "".join(f"<h3>{name}</h3><pre>{escape(text)}</pre>" for name, text in parts.items())
    kind = "wrong" if grade is not None and grade["score"] < 1 else "right"
    return f'<div class="{kind}"><details><summary>{escape(head)}</summary>{body}</details></div>'
