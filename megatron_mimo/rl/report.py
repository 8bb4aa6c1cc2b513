"""The HTML report of an RL run, made from its folder alone: metrics, newest timeline, configuration."""

import json
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.platform import page
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.formats import format_seconds
from megatron_mimo.record.charts import Series, line_chart
from megatron_mimo.record.rows import METRICS, TIMELINE, Row, read_rows
from megatron_mimo.rl.gantt import gantt


def write_report(output_dir: Path) -> Path:
    """Write `<output_dir>/report.html` from the other files of the folder; raises UserError without a finished step."""
    metrics = output_dir / METRICS
    rows = list(read_rows(metrics)) if metrics.is_file() else []
    steps = [row for row in rows if row["kind"] == "step"]
    validations = [row for row in rows if row["kind"] == "validation"]
    if not rows:
        raise UserError(f"{metrics} holds no step yet: nothing to report")
    body = [
        _head(output_dir, steps, validations),
        _validation(validations),
        *([_learning(steps), _rollout(steps), _engines(steps), _updates(steps)] if steps else []),
        _timeline(output_dir),
        _configuration(output_dir),
    ]
    path = output_dir / "report.html"
    write_text(path, page.page(f"{output_dir.name}: RL report", body))
    return path


def _head(output_dir: Path, steps: list[Row], validations: list[Row]) -> str:
    figures: dict[str, str] = {}
    if validations:
        first, last = validations[0], validations[-1]
        figures["pass@1 before"] = f"{first['solved']:.1%}"
        figures[f"pass@1 after step {last['step']}"] = f"{last['solved']:.1%}"
    if steps:
        seconds = sum(row["rollout_seconds"] + row["train_seconds"] + row["weights_seconds"] for row in steps)
        figures |= {
            "steps": f"{steps[-1]['step']:,}",
            "time in steps": format_seconds(seconds),
            "generated tokens": f"{sum(row['generated_tokens'] for row in steps):,}",
            "idle (rollout)": f"{_mean(steps, 'idle_ratio'):.1%}",
            "sample waste": f"{_mean(steps, 'waste_ratio'):.1%}",
        }
    return f"<h1>{page.escape(output_dir.name)}</h1>{page.tiles(figures)}"


def _mean(rows: list[Row], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def _validation(validations: list[Row]) -> str:
    if not validations:
        return ""
    last = validations[-1]
    overall = _series(validations, "solved", "all")
    overall = Series(
        "all", overall.x, overall.y, [row["low"] for row in validations], [row["high"] for row in validations]
    )
    chart = _chart([overall, *_by_domain(validations, "solved")], "held-out pass@1", markers=True)
    table = page.table(
        [
            {"domain": domain, "problems": result["groups"], "pass@1": result["solved"], "reward": result["reward"]}
            for domain, result in last["domains"].items()
        ]
    )
    note = f"Mean of {last['samples']} samples per problem; the band is the 95 % interval over problems."
    return page.section("Validation", page.cards(chart, page.titled(f"After step {last['step']}", table)), note=note)


def _learning(steps: list[Row]) -> str:
    charts = [
        _chart([_series(steps, "reward")], "reward"),
        _chart(_by_domain(steps, "reward"), "reward by domain and level"),
        _chart([_series(steps, "solved")], "pass rate of fresh problems"),
        _chart(
            [_series(steps, "response_tokens", "mean"), _series(steps, "longest_response_tokens", "longest")],
            "response length (tokens)",
        ),
        _chart([_series(steps, "truncated_ratio")], "cut at the budget"),
    ]
    note = "Of all complete groups drawn from the data, whether the batch took them or not."
    return page.section("Learning", page.cards(*charts, narrow=True), note=note)


def _rollout(steps: list[Row]) -> str:
    parts = ("rollout_seconds", "train_seconds", "weights_seconds")
    charts = [
        _chart([_series(steps, key, key.removesuffix("_seconds")) for key in parts], "seconds of a step"),
        _chart([_series(steps, "idle_ratio")], "engines idle in the rollout"),
        _chart([_series(steps, "waste_ratio")], "sample waste"),
        _chart([_series(steps, "survival_ratio")], "prompts that survive dynamic sampling"),
        _chart([_series(steps, "pool_size")], "easy-data pool (problems)"),
        _chart([_series(steps, "easy_draw_ratio")], "draws from the pool"),
    ]
    drafting = [row for row in steps if row.get("drafted_tokens")]
    if drafting:
        charts.append(_chart([_series(drafting, "draft_acceptance")], "drafts of the MTP layers accepted"))
    outcomes = [{"step": row["step"]} | row["outcomes"] for row in steps[-8:]]
    table = page.titled("Groups of the newest steps, by how they ended", page.table(outcomes))
    return page.section("Rollout", page.cards(*charts, narrow=True), page.cards(table))


def _engines(steps: list[Row]) -> str:
    """How the engines did: those that hung, died, or are slow show here."""
    engines = list(steps[-1].get("engines", {}).values())
    verifier = steps[-1].get("verifier", {})
    if not engines:
        return ""
    note = (
        "Counted since this start of the run. Time-outs in a row, and silence while the others finish, are deaths; "
        "tokens per second are of one request, smoothed."
    )
    said = page.titled("Mathematics answers by what the verifier said", page.pairs(verifier)) if verifier else ""
    return page.section("Engines and verifier", page.cards(page.table(engines), *filter(None, [said])), note=note)


def _updates(steps: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in steps for name in row["trainer"]))
    charts = []
    for name in names:
        rows = [row for row in steps if name in row["trainer"]]
        series = Series(name, [row["step"] for row in rows], [row["trainer"][name] for row in rows])
        charts.append(_chart([series], page.label(name)))
    return page.section("Policy updates", page.cards(*charts, narrow=True))


def _timeline(output_dir: Path) -> str:
    path = output_dir / TIMELINE
    if not path.is_file():
        return ""
    content = json.loads(path.read_text(encoding="utf-8"))
    note = "A bar is one response on an engine, or its reward, coloured by how its group ended."
    return page.section(
        f"Timeline of step {content['step']}", page.cards(gantt(content["spans"], content["seconds"])), note=note
    )


def _configuration(output_dir: Path) -> str:
    parts = []
    for name, title in (("command.txt", "Resume"), ("config.yaml", "Configuration")):
        path = output_dir / name
        if path.is_file():
            parts.append(page.section(title, f"<pre>{page.escape(path.read_text(encoding='utf-8').strip())}</pre>"))
    return "".join(parts)


def _series(rows: list[Row], key: str, name: str = "") -> Series:
    return Series(name or key, [row["step"] for row in rows], [row[key] for row in rows])


def _by_domain(rows: list[Row], key: str) -> list[Series]:
    domains = sorted({domain for row in rows for domain in row["domains"]})
    series = []
    for domain in domains:
        present = [row for row in rows if domain in row["domains"]]
        series.append(
            Series(domain, [row["step"] for row in present], [row["domains"][domain][key] for row in present])
        )
    return series


def _chart(series: list[Series], title: str, *, markers: bool = False) -> str:
    return line_chart(series, title, x_label="step", small=True, markers=markers) if series else ""
