"""Run a pipeline: stage after stage, the tasks that have no marker yet, each failed one once more."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from megatron_mimo.config import UserError
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.guard import claim_folder
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.local import LocalExecutor
from megatron_mimo.data.pipeline.markers import read_marker
from megatron_mimo.data.pipeline.outcome import StepOutcome
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.progress import Progress
from megatron_mimo.data.pipeline.report import write_report
from megatron_mimo.data.pipeline.retries import Retries
from megatron_mimo.data.pipeline.step import Stage

Report = Callable[[str], None]


class Executor(Protocol):
    """Runs tasks somewhere."""

    def run(self, stage: str, indices: Sequence[int]) -> Iterator[StepOutcome]:
        """Run these tasks of a stage; their outcomes as they come."""
        ...

    def close(self) -> None:
        """Free what the executor holds."""
        ...


def run_pipeline(config: PipelineConfig, command: str, report: Report = print) -> None:
    """Run every stage to its end here or on Ray, and write `report.html`; `command` is what resumes the run.

    Raises UserError when the folder belongs to another pipeline, or a task failed twice.
    """
    layout = claim_folder(config)
    executor = make_executor(config)
    try:
        for stage in stages_of(config):
            run_stage(stage, range(stage.num_tasks), executor, layout, command, report)
    finally:
        executor.close()
        write_report(config, command)
    report(f"pipeline done: {layout.report}")


def make_executor(config: PipelineConfig) -> Executor:
    """The executor that waits for its tasks: local processes, or Ray."""
    if config.executor.ray is not None:
        from megatron_mimo.data.pipeline.ray_tasks import RayExecutor

        return RayExecutor(config, config.executor.ray)
    if config.executor.slurm is not None:
        return LocalExecutor(config, config.executor.slurm.cpus_per_task)
    assert config.executor.local is not None
    return LocalExecutor(config, config.executor.local.num_workers)


def unfinished(layout: Layout, stage: Stage, indices: Sequence[int]) -> list[int]:
    """The tasks without a (good) marker."""
    return [index for index in indices if read_marker(layout, stage.name, index) is None]


def check_ready(layout: Layout, stages: Sequence[Stage], name: str) -> Stage:
    """The stage of that name; raises UserError unless all tasks of the stage before it are done.

    That one had begun when those before it were done: looking at all of them would read every marker of the pipeline.
    """
    names = [stage.name for stage in stages]
    if name not in names:
        raise UserError(f"no stage is called {name}; there are {', '.join(names)}")
    index = names.index(name)
    check_all_done(layout, stages[max(index - 1, 0) : index])
    return stages[index]


def check_all_done(layout: Layout, stages: Sequence[Stage]) -> None:
    """Raise UserError unless every task of every stage is done."""
    for stage in stages:
        missing = unfinished(layout, stage, range(stage.num_tasks))
        if missing:
            raise UserError(f"{len(missing)} tasks of stage {stage.name} are not done: {missing[:5]}")


def run_stage(
    stage: Stage, indices: Sequence[int], executor: Executor, layout: Layout, command: str, report: Report
) -> None:
    """Run those of the tasks that are not done; raises UserError with the resume command when any could not be."""
    missing = unfinished(layout, stage, indices)
    if not missing:
        report(f"{stage.name}: {len(indices)} tasks done already")
        return
    progress = Progress(stage.name, len(indices), len(indices) - len(missing), report)
    retries = Retries(stage.name, layout)
    while missing:
        outcomes = list(_watched(stage, missing, executor, progress, layout, report))
        bad = [outcome for outcome in outcomes if outcome.result != "done"]
        given_up = [outcome for outcome in bad if not retries.may_try_again(outcome, report)]
        if given_up:
            raise UserError(_failure(stage, given_up, layout, command))
        missing = sorted(outcome.index for outcome in bad)
        if missing:
            report(f"{stage.name}: trying {len(missing)} tasks again")
    progress.end()


def _watched(
    stage: Stage, indices: Sequence[int], executor: Executor, progress: Progress, layout: Layout, report: Report
) -> Iterator[StepOutcome]:
    """The outcomes, told to the console as they come."""
    for outcome in executor.run(stage.name, indices):
        marker = read_marker(layout, stage.name, outcome.index) if outcome.result == "done" else None
        if marker is not None:
            progress.add(marker)
        else:
            report(f"{stage.name}: task {outcome.index} {outcome.result}: {outcome.error}")
        yield outcome


def _failure(stage: Stage, bad: Sequence[StepOutcome], layout: Layout, command: str) -> str:
    lines = [f"  task {outcome.index} {outcome.result}: {outcome.error}" for outcome in bad[:5]]
    return (
        f"stage {stage.name}: {len(bad)} tasks could not be finished; all others are done and stay.\n"
        + "\n".join(lines)
        + f"\nTracebacks are in {layout.failure(stage.name, 0).parent}."
        + f" To go on, when the cause is mended:\n  {command}"
    )
