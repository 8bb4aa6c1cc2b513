"""The verdicts as a page to read: one HTML file, and the part of docs/claims.md that stands between its marks."""

from collections.abc import Sequence
from pathlib import Path

from megatron_mimo.claims.picture import forest
from megatron_mimo.claims.statements import CLAIMS
from megatron_mimo.claims.study import Study
from megatron_mimo.claims.verdicts import Judged, StudyAnswer
from megatron_mimo.config.errors import UserError
from megatron_mimo.platform.page import Cell, details, escape, page, section, table, tiles

START, END = "<!-- verdicts: written by megatron-mimo claims report -->", "<!-- end of verdicts -->"
KINDS = {"agrees": "good", "disagrees": "bad"}
RULE = (
    "A study asks questions, each about the difference of two arms in one outcome. Its interval covers 95 % and counts"
    " both seeds and problems as drawn by chance. An answer is given where the p-value, adjusted over the questions of"
    " all studies (Benjamini and Hochberg), is at most 0.05. A study agrees with the claim where all its questions do,"
    " and disagrees where one does; anything else is “cannot tell”."
)


def html_page(judged: Sequence[Judged]) -> str:
    """All studies on one page."""
    run = [one for one in judged if one.answers]
    figures = {
        "studies run": f"{len(run)} of {len(judged)}",
        "claims re-tested": str(len({one.study.claim for one in run if not one.study.is_planted})),
        "core-hours": f"{sum(one.core_hours for one in judged):.1f}",
    }
    intro = "<p>What the report of MiMo-7B claims, re-tested on models of 2 to 3 million parameters.</p>"
    body = [
        "<h1>The report, re-tested</h1>",
        intro,
        f'<p class="soft">{escape(RULE)}</p>',
        tiles(figures),
        overview(judged),
        *map(study_section, judged),
    ]
    return page("The report, re-tested", body)


def overview(judged: Sequence[Judged]) -> str:
    """A line per study."""
    rows = [
        {
            "claim": "-" if one.study.is_planted else str(one.study.claim),
            "study": one.study.title,
            "verdict": Cell(one.word, KINDS.get(one.word, "")),
            "seeds": str(len(one.seeds)),
            "core-hours": f"{one.core_hours:.2f}",
        }
        for one in judged
    ]
    return section("Verdicts", table(rows))


def study_section(one: Judged) -> str:
    """Everything about one study."""
    study = one.study
    parts = [
        f"<p><b>{escape(statement(study))}</b></p>",
        f"<p>{escape(study.design)}</p>",
        *(paragraph(answer, study.units.get(answer.question.outcome, "")) for answer in one.answers),
        forest(one.answers),
        f"<p>What it can say: {escape(study.can_say)}</p><p>What it cannot say: {escape(study.cannot_say)}</p>",
        arms_table(one),
        details("How to run it", f"<pre>{escape(command(one))}</pre><p>{escape(study.stopping_rule)}</p>"),
    ]
    return section(f"{study.title}: {one.word}", *parts)


def statement(study: Study) -> str:
    """What is tested."""
    if study.is_planted:
        return "A fault is planted; the machinery must find it."
    return (
        CLAIMS[study.claim - 1].text if study.claim <= len(CLAIMS) else "Not a claim of the report; a question of ours."
    )


def paragraph(answer: StudyAnswer, unit: str) -> str:
    """A question and its answer in words."""
    return f"<p>{escape(in_words(answer, unit))}</p>"


def in_words(answer: StudyAnswer, unit: str) -> str:
    """The answer to one question, in sentences."""
    question, effect = answer.question, answer.effect
    low, high = effect.interval
    measured = f"{question.outcome}{f' ({unit})' if unit else ''}"
    pairs = zip(reversed(answer.levels), reversed(question.names), strict=True)
    levels = ", ".join(f"{level:.4g} for {name}" for level, name in pairs)
    return (
        f"{question.text} {measured}: {levels}; difference {effect.mean:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}"
        f" (adjusted p = {answer.adjusted_p:.2g}). The smallest effect that these runs would have found in four of five"
        f" repetitions: {effect.detectable:.2g}. {answer.word.capitalize()}."
    )


def arms_table(one: Judged) -> str:
    """The mean of every asked outcome, for every arm and seed."""
    outcomes = list(dict.fromkeys(question.outcome for question in one.study.questions))
    rows = []
    for (arm, seed), run in sorted(one.runs.items()):
        means = {name: mean(run.outcomes.get(name, {})) for name in outcomes}
        rows.append({"arm": arm, "seed": str(seed), **means, "CPU s": f"{run.core_seconds:.0f}"})
    texts = {arm.name: arm.text for arm in one.study.arms}
    listed = "".join(f"<p>{escape(name)}: {escape(text)}</p>" for name, text in texts.items())
    return details("Arms, and every run", listed + table(rows)) if rows else listed


def mean(values: dict) -> str:
    return f"{sum(values.values()) / len(values):.4f}" if values else "-"


def command(one: Judged) -> str:
    """The exact command of its runs."""
    seeds = ",".join(map(str, one.seeds or one.study.seeds))
    return f"megatron-mimo claims run {one.name} --seeds {seeds}"


def markdown(judged: Sequence[Judged]) -> str:
    """The same, shorter, for docs/claims.md."""
    lines = [START, "", RULE, "", "| claim | study | verdict | seeds | core-hours |", "|---|---|---|---|---|"]
    for one in judged:
        claim = "check" if one.study.is_planted else str(one.study.claim)
        lines.append(f"| {claim} | {one.study.title} | {one.word} | {len(one.seeds)} | {one.core_hours:.2f} |")
    lines += [
        "",
        f"All runs together took {sum(one.core_hours for one in judged):.1f} core-hours on {cpus(judged)}.",
        "",
    ]
    for one in judged:
        if one.answers:
            lines += [f"### {one.study.title}: {one.word}", "", one.study.design, ""]
            lines += [
                f"- {in_words(answer, one.study.units.get(answer.question.outcome, ''))}" for answer in one.answers
            ]
            lines += ["", f"What it cannot say: {one.study.cannot_say}", "", f"`{command(one)}`", ""]
    return "\n".join([*lines, END])


def cpus(judged: Sequence[Judged]) -> str:
    """The CPUs that the runs were made on."""
    return ", ".join(sorted({run.cpu for one in judged for run in one.runs.values()})) or "no machine yet"


def replace_verdicts(path: Path, text: str) -> str:
    """The content of docs/claims.md with its verdicts replaced; raises UserError where the marks are missing."""
    content = path.read_text(encoding="utf-8")
    if START not in content or END not in content:
        raise UserError(f"{path} has no part between {START} and {END}")
    before, after = content[: content.index(START)], content[content.index(END) + len(END) :]
    return before + text + after
