"""Make data: raw files -> documents (`pipeline:`) -> tokenizer and `.bin/.idx` (`tokenize:`), from one YAML.

    megatron-mimo preprocess [--config] CONFIG.yaml [key=value ...]

What is finished is kept, what was interrupted goes on where it stopped, a folder made in another way is only replaced
with overwrite=true. docs/data.md explains the rest.
"""

import argparse
import shlex
import time
from collections.abc import Callable

from megatron_mimo.cli.command import exit_code, own_program, parser_of
from megatron_mimo.config import UserError
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.guard import claim_folder, read_layout
from megatron_mimo.data.pipeline.job import JobConfig, load_job, tokenize, write_job
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import damaged_files, read_marker
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.report import write_report
from megatron_mimo.data.pipeline.run import check_all_done, check_ready, make_executor, run_pipeline, run_stage
from megatron_mimo.data.pipeline.slurm import jobs_of, submit, submit_command

Report = Callable[[str], None]


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and `[FILE, override, ...]`."""
    parser = parser_of(__doc__)
    parser.add_argument("settings", nargs="*", metavar="CONFIG.yaml key=value", help="configuration, then overrides")
    parser.add_argument("--config", metavar="FILE", help="the configuration, when it does not come first")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and write nothing")
    parser.add_argument("--tasks", metavar="STAGE:FIRST-LAST", help="run these tasks of one stage and end")
    parser.add_argument("--finish", action="store_true", help="all stages are done: tokenize and write the report")
    parser.add_argument("--report", action="store_true", help="write the pipeline's report.html and end")
    parser.add_argument("--verify", action="store_true", help="hash every finished file; those damaged are made anew")
    options, more = parser.parse_known_args(arguments)
    settings = [*([options.config] if options.config else []), *options.settings, *more]
    if not settings:
        parser.error("give a configuration: examples/nano/data.yaml is one")
    return options, settings


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    start = time.monotonic()
    options, (file, *overrides) = parse(arguments)
    command = shlex.join([*own_program("preprocess"), file, *overrides])

    def report(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True)

    return exit_code(
        lambda: run(load_job(file, overrides), options, command, report),
        f"interrupted; to go on:\n  {command}",
    )


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
    return [*own_program("preprocess"), "--config", str(layout.config)]


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
