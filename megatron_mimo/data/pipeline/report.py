"""The HTML report of a pipeline: what went in and out of every step, what was dropped and why, faults, speeds."""

from collections.abc import Sequence, Set
from datetime import datetime

from megatron_mimo.config import to_yaml
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.summary import FAULTS_SHOWN, StageSummary, grouped, summarize
from megatron_mimo.platform import page
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.formats import format_seconds


def write_report(config: PipelineConfig, command: str) -> None:
    """Write `report.html` from the markers that are there; also of a pipeline that has not ended."""
    layout = Layout.of(config.output_dir)
    summaries = grouped([summarize(layout, stage) for stage in stages_of(config)])
    body = [
        _head(layout, summaries, {stage.name for stage in config.stages if stage.reader is not None}),
        _stages(summaries),
        *(_steps(summary) for summary in summaries),
        _faults(summaries),
        page.section("Resume", f"<pre>{page.escape(command)}</pre>", note="Runs what is not done, and nothing twice."),
        page.section("Configuration", page.details("resolved", f"<pre>{page.escape(to_yaml(config))}</pre>")),
    ]
    write_text(layout.report, page.page(f"{layout.root.name}: data pipeline", body))


def _head(layout: Layout, summaries: Sequence[StageSummary], read: Set[str]) -> str:
    """Key figures; `read` names the stages with readers."""
    tasks, finished = sum(s.num_tasks for s in summaries), sum(s.finished for s in summaries)
    faults = sum(_faults_of(summary) for summary in summaries)
    figures = {
        f"of {tasks:,} tasks done": f"{finished:,}",
        "documents read": f"{sum(s.counts['read/documents'] for s in summaries if s.name in read):,}",
        "documents at the end": f"{summaries[-1].counts['write/documents']:,}",
        "CPU time": format_seconds(sum(s.cpu_seconds for s in summaries), decimals=1),
        "faults": f"{faults:,}",
    }
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return f"<h1>{page.escape(layout.root)}</h1><p class=soft>data pipeline, written {written}</p>{page.tiles(figures)}"


def _stages(summaries: Sequence[StageSummary]) -> str:
    rows = [
        {
            "stage": summary.name,
            "tasks": f"{summary.finished:,} of {summary.num_tasks:,}",
            **_amounts(summary),
            "CPU s": summary.cpu_seconds,
            "MB / CPU s": _rate(summary.counts["read/text_bytes"] / 1e6, summary.cpu_seconds),
            "documents / CPU s": _rate(summary.counts["read/documents"], summary.cpu_seconds),
            "longest task (s)": summary.longest_task_seconds,
            "faults": _faults_of(summary),
        }
        for summary in summaries
    ]
    note = "Sums over the finished tasks. MB are 10^6 bytes of UTF-8 text."
    return page.section("Stages", page.table(rows), note=note)


def _amounts(summary: StageSummary) -> dict[str, int | float | str]:
    """Documents and text in and out; a stage with files of its own kind has none."""
    if not summary.step_cpu_seconds:
        return dict.fromkeys(("documents in", "documents out", "text in (MB)", "text out (MB)", "written (MB)"), "")
    return {
        "documents in": summary.counts["read/documents"],
        "documents out": summary.counts["write/documents"],
        "text in (MB)": summary.counts["read/text_bytes"] / 1e6,
        "text out (MB)": summary.counts["write/text_bytes"] / 1e6,
        "written (MB)": summary.written_bytes / 1e6,
    }


def _steps(summary: StageSummary) -> str:
    """One stage: one row per step, the reasons for drops, everything else that was counted, samples."""
    total = max(summary.counts["read/documents"], 1)
    rows = []
    for step in ["read", *summary.steps, "write"] if summary.step_cpu_seconds else []:
        left = summary.counts["read/documents" if step == "read" else f"{step}/out"]
        left = summary.counts["write/documents"] if step == "write" else left
        seconds = float(summary.step_cpu_seconds[step])
        rows.append(
            {
                "step": step,
                "in": summary.counts[f"{step}/in"] if step in summary.steps else left,
                "out": left,
                "share": left / total,
                "dropped": sum(summary.dropped(step).values()),
                "CPU s": seconds,
                "documents / CPU s": _rate(left, seconds),
            }
        )
    reasons = [
        {"step": step, "dropped because": reason, "documents": number, "% of its input": 100 * number / entered}
        for step in ["read", *summary.steps]
        for entered in [max(summary.counts[f"{step}/in"], 1)]
        for reason, number in summary.dropped(step).items()
    ]
    shown = ("/in", "/out", "/text_bytes", "/documents")
    others = [
        {"count": name, "number": number}
        for name, number in summary.counts.items()
        if "/dropped/" not in name and not name.endswith(shown)
    ]
    samples = [
        page.details(f"{kind} ({len(found)} of them)", "".join(_sample(sample) for sample in found))
        for kind, found in sorted(summary.samples.items())
    ]
    return page.section(
        f"Stage {summary.name}", page.table(rows, share="share"), page.table(reasons), page.table(others), *samples
    )


def _sample(sample: dict[str, str]) -> str:
    place = " ".join(part for part in (sample["id"], sample["url"]) if part)
    return f'<p class="soft">{page.escape(place)}</p><pre>{page.escape(sample["text"])}</pre>'


def _faults(summaries: Sequence[StageSummary]) -> str:
    rows = [
        {"stage": summary.name, "place": fault.place, "what": fault.error}
        for summary in summaries
        for fault in summary.faults
    ]
    total = sum(_faults_of(summary) for summary in summaries)
    return page.section(f"Faults: {total:,}", page.table(rows[:FAULTS_SHOWN]), note="All of them are in the markers.")


def _faults_of(summary: StageSummary) -> int:
    return sum(number for name, number in summary.counts.items() if name.endswith("/faults"))


def _rate(amount: float, seconds: float) -> float | str:
    return amount / seconds if amount and seconds > 1e-3 else ""
