"""The two halves of a data job as its options ask for them; `cli/preprocess.py` reads the options."""

import argparse
import shlex
from collections.abc import Callable

from megatron_mimo.cli.command import own_program
from megatron_mimo.config import UserError
from megatron_mimo.data.job import JobConfig, tokenize, write_job
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.guard import claim_folder, read_layout
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import damaged_files, read_marker
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.report import write_report
from megatron_mimo.data.pipeline.run import check_all_done, check_ready, make_executor, run_pipeline, run_stage
from megatron_mimo.data.pipeline.slurm import jobs_of, submit, submit_command

Report = Callable[[str], None]


def run(job: JobConfig, options: argparse.Namespace, command: str, report: Report) -> None:
    """What the options ask for."""
    if job.pipeline is None:
        return tokenize_part(job, options, report)
    if options.dry_run:
        return dry_run(job.pipeline, report)
    if options.tasks or options.finish or options.report or options.verify:
        layout = read_layout(job.pipeline)
        if options.tasks:
            return run_tasks(job.pipeline, layout, options.tasks, command, report)
        if options.verify:
            return verify(job.pipeline, layout, report)
        if options.finish:
            check_all_done(layout, stages_of(job.pipeline))
        write_report(job.pipeline, command)
        return tokenize_part(job, options, report) if options.finish else report(f"report: {layout.report}")
    layout = claim_folder(job.pipeline)
    write_job(job, layout)
    if job.pipeline.executor.slurm is not None:
        jobs = jobs_of(job.pipeline, stages_of(job.pipeline), layout, own_command(layout))
        return submit(jobs, job.pipeline.executor.slurm, report)
    run_pipeline(job.pipeline, command, report)
    tokenize_part(job, options, report)


def tokenize_part(job: JobConfig, options: argparse.Namespace, report: Report) -> None:
    """The second half, where the configuration has one."""
    if job.tokenize is not None and not options.dry_run:
        tokenize(job, report)
        report(f"data folder ready: {job.tokenize.output_dir}")


def own_command(layout: Layout) -> list[str]:
    """This command on the resolved configuration."""
    return [*own_program("data"), "--config", str(layout.config)]


def run_tasks(config: PipelineConfig, layout: Layout, wanted: str, command: str, report: Report) -> None:
    """`--tasks STAGE:FIRST-LAST`: one element of an array job, or one task by hand."""
    name, _, numbers = wanted.rpartition(":")
    first, _, last = numbers.partition("-")
    if not name or not first.isdecimal() or not (last or first).isdecimal():
        raise UserError(f"cannot read --tasks {wanted}: write STAGE:FIRST-LAST or STAGE:NUMBER")
    stage = check_ready(layout, stages_of(config), name)
    if int(last or first) >= stage.num_tasks:
        raise UserError(f"--tasks {wanted}: stage {name} has the tasks 0 to {stage.num_tasks - 1}")
    executor = make_executor(config)
    try:
        run_stage(stage, range(int(first), int(last or first) + 1), executor, layout, command, report)
    finally:
        executor.close()


def dry_run(config: PipelineConfig, report: Report) -> None:
    """The stages, their tasks, and the commands that would run them."""
    layout = Layout.of(config.output_dir)
    for stage in stages_of(config):
        report(f"{stage.name}: {stage.num_tasks} tasks")
    slurm = config.executor.slurm
    if slurm is not None:
        for job in jobs_of(config, stages_of(config), layout, own_command(layout)):
            report(shlex.join(submit_command(job, None, slurm)))
            print(job.text)


def verify(config: PipelineConfig, layout: Layout, report: Report) -> None:
    """Hash what the markers vouch for; the marker of a damaged task is removed, so that the next run repeats it."""
    damaged = 0
    for stage in stages_of(config):
        for index in range(stage.num_tasks):
            marker = read_marker(layout, stage.name, index)
            bad = damaged_files(layout, marker) if marker is not None else []
            if bad:
                damaged += 1
                layout.marker(stage.name, index).unlink()
                report(f"{stage.name}: task {index} is damaged ({', '.join(bad)}) and will run again")
    report(f"{damaged} damaged tasks")
