"""The HTML report of a run, made from its folder alone: results first, then curves, then how it was made."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from megatron_mimo.config import TrainingConfig, UserError
from megatron_mimo.config.load import from_tree, read_yaml
from megatron_mimo.data.loading.mixture import read_mixture
from megatron_mimo.platform import page
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.formats import format_bytes, format_count, format_seconds
from megatron_mimo.record.charts import Series, line_chart
from megatron_mimo.record.rows import METRICS
from megatron_mimo.training.history import History, mean, read_history
from megatron_mimo.training.report_results import read_results, result_sections, result_tiles

SCHEDULES = {
    "learning rate": "learning_rate",
    "global batch size (sequences)": "global_batch_size",
    "MTP loss weight": "mtp_loss_scaling_factor",
    "sequence length (tokens)": "seq_length",
    "RoPE base": "rotary_base",
}


FIGURE_NOTES = {
    "loss": "Nats per token: how far the model was from the right next token at the end. 0 would be certain.",
    "tokens read": "A token is a piece of a word, a digit or a sign.",
    "steps": "Updates of the weights.",
    "time in steps": "Without start-up, evaluation and checkpoints.",
    "tokens per second": "Of all processes together, on average.",
    "peak memory": "The most that one process took.",
    "skipped steps": "Left out because loss or gradient was not a number, or leapt.",
}
HELD_OUT_NOTE = "Nats per token on text that training never reads, measured now and then; lower is better."
MTP_LOSS_NOTE = "The same for the extra layer that predicts a token further ahead; its guesses speed up serving."


def write_report(output_dir: Path) -> Path:
    """Write `<output_dir>/report.html` from the files beside it; raises UserError where one is missing or broken."""
    config, mixtures = _read_run(output_dir / "config.yaml")
    history = read_history(output_dir / METRICS)
    if history.last is None:
        raise UserError(f"{output_dir / METRICS} holds no step yet: nothing to report")
    results = read_results(output_dir)
    body = [
        _head(config, history, results),
        *result_sections(results),
        _training(config, history),
        _losses(history),
        _evaluation(history),
        _scores(history),
        _mixture(history, {name: output_dir / path for name, path in mixtures.items()}),
        _schedules(history),
        _speed(history),
        _environment(output_dir),
        _configuration(output_dir),
    ]
    path = output_dir / "report.html"
    write_text(path, page.page(f"{config.name}: training report", body))
    return path


def _read_run(path: Path) -> tuple[TrainingConfig, dict[str, str]]:
    """The run, and the mixture file of each stage that has one: those of conversations have none."""
    tree = read_yaml(path)
    mixtures = {stage["name"]: stage.pop("mixture", "") for stage in tree.get("stages", [])}
    return from_tree(TrainingConfig, tree, str(path)), {name: file for name, file in mixtures.items() if file}


def _head(config: TrainingConfig, history: History, results: dict[str, Any]) -> str:
    last = history.steps[-1]
    share = last["consumed_tokens"] / config.total_tokens
    model = config.model
    shape = (
        f"{model.num_layers} layers x {model.hidden_size}, {model.num_attention_heads} heads in "
        f"{model.num_query_groups} groups, vocabulary {model.vocab_size:,}, {model.mtp_num_layers} MTP layer(s)"
    )
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    lead = f"{page.percent(share)} of the plan, in stage {last['stage']}, written {written}"
    return (
        f"<h1>{page.escape(config.name)}</h1><p>{page.escape(shape)}</p>"
        f'<p class="soft">{page.escape(lead)}</p>{page.progress_bar(share)}{result_tiles(results)}'
    )


def _training(config: TrainingConfig, history: History) -> str:
    """The last step's losses, and what the run took."""
    last = history.steps[-1]
    depths = {f"MTP loss, depth {depth}": loss for depth, loss in enumerate(last["mtp_losses"], start=1)}
    figures = {
        "loss": f"{last['loss']:.4f}",
        **{name: f"{loss:.4f}" for name, loss in depths.items()},
        "tokens read": f"{format_count(last['consumed_tokens'])} of {format_count(config.total_tokens)}",
        "steps": f"{last['step']:,}",
        "time in steps": format_seconds(history.step_seconds),
        "tokens per second": format_count(mean(row["tokens_per_second"] for row in history.steps)),
        "peak memory": format_bytes(history.peak_memory_bytes),
        "skipped steps": f"{history.skipped_steps:,}",
    }
    notes = FIGURE_NOTES | dict.fromkeys(depths, MTP_LOSS_NOTE)
    return page.section("Training", page.tiles(figures, notes), note="Where the run ended, and what it took.")


def _column(history: History, key: str, name: str = "", low: str = "", high: str = "") -> Series:
    """One column of the steps over consumed tokens; null is a gap."""

    def values(column: str) -> list[float]:
        return [float("nan") if row[column] is None else row[column] for row in history.steps]

    tokens = [row["consumed_tokens"] for row in history.steps]
    band = (values(low), values(high)) if low else (None, None)
    return Series(name or key, tokens, values(key), *band)


def _stages(history: History) -> list[tuple[float, str]]:
    return [(tokens, name) for name, tokens in history.stage_starts.items()]


def _losses(history: History) -> str:
    tokens = [row["consumed_tokens"] for row in history.steps]
    series = [_column(history, "loss", "main", "loss_low", "loss_high")]
    for depth in range(len(history.steps[0]["mtp_losses"])):
        values = [row["mtp_losses"][depth] for row in history.steps]
        series.append(Series(f"MTP depth {depth + 1}", tokens, values))
    sources = sorted(name for stage in history.source_tokens.values() for name in stage)
    by_source = [_by_key(history.steps, "source_losses", source) for source in dict.fromkeys(sources)]
    stages = _stages(history)
    return page.section(
        "Training loss",
        page.cards(
            line_chart(series, "loss (nats per token)", boundaries=stages),
            line_chart(by_source, "main loss by source", boundaries=stages) if by_source else "",
        ),
        note="The loss, in nats per token, falls as the model learns; a stage with another mixture makes it jump."
        " Each point is the mean of the steps it stands for; the band spans their smallest and largest loss.",
    )


def _by_key(rows: list[dict[str, Any]], column: str, key: str) -> Series:
    present = [row for row in rows if key in row[column]]
    return Series(key, [row["consumed_tokens"] for row in present], [row[column][key] for row in present])


def _evaluation(history: History) -> str:
    if not history.evaluations:
        return ""
    sources = sorted({source for row in history.evaluations for source in row["losses"]})
    series = [_by_key(history.evaluations, "losses", source) for source in sources]
    chart = line_chart(series, "held-out main loss by source", boundaries=_stages(history), markers=True)
    last = history.evaluations[-1]
    rows = [
        {"source": source, "main loss": loss}
        | {f"MTP depth {depth}": value for depth, value in enumerate(last["mtp_losses"].get(source, []), start=1)}
        for source, loss in sorted(last["losses"].items())
    ]
    newest = page.titled(f"At {format_count(last['consumed_tokens'])} tokens", page.table(rows))
    return page.section("Held-out loss", page.cards(chart, newest), note=HELD_OUT_NOTE)


def _scores(history: History) -> str:
    """Benchmarks answered during the run: a curve a task, and a row each time."""
    if not history.scores:
        return ""
    names = sorted({task for row in history.scores for task in row["tasks"]})
    curves = [
        {**row, "percent": {task: _percent(found["score"]) for task, found in row["tasks"].items()}}
        for row in history.scores
    ]
    chart = line_chart(
        [_by_key(curves, "percent", task) for task in names], "score (%)", boundaries=_stages(history), markers=True
    )
    rows = [
        {"step": row["step"], "tokens": format_count(row["consumed_tokens"]), "task": task}
        | {key: page.percent(found[key]) for key in ("score", "low", "high", "in_format", "truncated")}
        | {"tokens per answer": found["mean_tokens"]}
        for row in history.scores
        for task, found in row["tasks"].items()
    ]
    note = (
        "Answers of the weights of the moment: mean score of n answers per problem, with its 95 % interval (low, high);"
        " in format: a think block and an answer; truncated: cut at the longest answer allowed."
    )
    return page.section("Benchmarks during the run", page.cards(chart), page.table(rows), note=note)


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def _mixture(history: History, mixtures: dict[str, Path]) -> str:
    contents = []
    for stage, consumed in history.source_tokens.items():
        asked = _asked_shares(mixtures[stage]) if stage in mixtures else {}
        total = sum(consumed.values()) or 1
        rows = [
            {
                "source": source,
                **({"asked": page.percent(asked.get(source, 0.0), 2)} if asked else {}),
                "actual": page.percent(consumed.get(source, 0) / total, 2),
                "tokens": format_count(consumed.get(source, 0)),
            }
            for source in sorted(asked | consumed, key=lambda name: -consumed.get(name, 0))
            if asked.get(source) or consumed.get(source)
        ]
        contents.append(page.titled(f"{stage}: {format_count(total)} tokens", page.table(rows)))
    note = "Tokens that entered training steps, and the shares asked for where the mixture file is in reach."
    return page.section("Mixture", page.cards(*contents, narrow=True), note=note)


def _asked_shares(mixture: Path) -> dict[str, float]:
    """Shares by source, adding up to 1; empty where the mixture file is not within reach of the run folder."""
    if not mixture.is_file():
        return {}
    return {source: float(weight) for source, weight in read_mixture(mixture).weights.items()}


def _schedules(history: History) -> str:
    charts = [
        _small_chart(_column(history, key), name, history, staircase=key != "learning_rate")
        for name, key in SCHEDULES.items()
    ]
    note = "Settings that change on the way, by the tokens read so far."
    return page.section("Schedules, as run", page.cards(*charts, narrow=True), note=note)


def _speed(history: History) -> str:
    memory = _column(history, "memory_bytes")
    charts = {
        "tokens per second, all processes": _column(history, "tokens_per_second"),
        "model TFLOP/s per process": _column(history, "tflops_per_gpu"),
        "model FLOPs utilisation": _column(history, "mfu"),
        "memory of a process (GiB)": Series("memory", memory.x, [size / 2**30 for size in memory.y]),
    }
    drawn = [_small_chart(series, name, history) for name, series in charts.items() if any(y == y for y in series.y)]
    drawn.append(_small_chart(_column(history, "grad_norm"), "gradient norm before clipping", history, log_y=True))
    note = (
        "FLOPs are the model's multiplications and additions, causal attention counted half, recomputation left out."
        " The gradient norm says how strongly a step pulls at the weights; steps above the limit are scaled down to it."
    )
    return page.section("Speed, memory, gradients", page.cards(*drawn, narrow=True), note=note)


def _small_chart(
    series: Series, y_label: str, history: History, *, log_y: bool = False, staircase: bool = False
) -> str:
    return line_chart([series], y_label, boundaries=_stages(history), log_y=log_y, staircase=staircase, small=True)


def _environment(output_dir: Path) -> str:
    path = output_dir / "environment.json"
    if not path.is_file():
        return ""
    report = json.loads(path.read_text(encoding="utf-8"))
    return page.section(
        "Environment", page.cards(*(page.titled(name, page.pairs(values)) for name, values in report.items() if values))
    )


def _configuration(output_dir: Path) -> str:
    command = output_dir / "command.txt"
    resume = f"<pre>{page.escape(command.read_text(encoding='utf-8').strip())}</pre>" if command.is_file() else ""
    text = page.escape((output_dir / "config.yaml").read_text(encoding="utf-8"))
    resolved = f"<details><summary>config.yaml, resolved</summary><pre>{text}</pre></details>"
    return page.section("Resume", resume) + page.section("Configuration", resolved)
