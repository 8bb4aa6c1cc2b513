"""What happened in a pipeline, added up from its markers: for the report, the console and tests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import read_marker
from megatron_mimo.data.pipeline.step import SAMPLES_KEPT, Fault, Stage

FAULTS_SHOWN = 200


@dataclass
class StageSummary:
    """One stage: sums over its finished tasks."""

    name: str
    num_tasks: int
    finished: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    step_cpu_seconds: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    longest_task_seconds: float = 0.0
    written_bytes: int = 0
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """Names of the steps, in the order they run."""
        return [name for name in self.step_cpu_seconds if name not in ("read", "write")]

    def dropped(self, step: str) -> dict[str, int]:
        """Reason -> documents that the step dropped for it, most first."""
        prefix = f"{step}/dropped/"
        found = {name.removeprefix(prefix): number for name, number in self.counts.items() if name.startswith(prefix)}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def grouped(summaries: Sequence[StageSummary]) -> list[StageSummary]:
    """The parts of a deduplication (`near/...`) added up as one stage."""
    found: dict[str, StageSummary] = {}
    for part in summaries:
        name = part.name.partition("/")[0]
        whole = found.setdefault(name, StageSummary(name, 0))
        whole.num_tasks += part.num_tasks
        whole.finished += part.finished
        whole.counts.update(part.counts)
        whole.step_cpu_seconds.update(part.step_cpu_seconds)
        whole.cpu_seconds += part.cpu_seconds
        whole.longest_task_seconds = max(whole.longest_task_seconds, part.longest_task_seconds)
        whole.written_bytes += part.written_bytes
        whole.samples |= part.samples
        whole.faults += part.faults
    return list(found.values())


def summarize(layout: Layout, stage: Stage) -> StageSummary:
    """Add up the markers of a stage."""
    summary = StageSummary(stage.name, stage.num_tasks)
    for index in range(stage.num_tasks):
        marker = read_marker(layout, stage.name, index)
        if marker is None:
            continue
        summary.finished += 1
        summary.counts.update(marker.counts)
        summary.step_cpu_seconds.update(marker.step_cpu_seconds)
        summary.cpu_seconds += marker.cpu_seconds
        summary.longest_task_seconds = max(summary.longest_task_seconds, marker.wall_seconds)
        summary.written_bytes += sum(marker.files.values())
        for kind, samples in marker.samples.items():
            kept = summary.samples.setdefault(kind, [])
            kept += samples[: SAMPLES_KEPT - len(kept)]
        summary.faults += marker.faults[: FAULTS_SHOWN - len(summary.faults)]
    return summary
