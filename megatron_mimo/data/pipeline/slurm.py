"""A pipeline as a chain of SLURM job arrays: one array per stage, each after the one before is done, and a last job.

An array element runs `tasks_per_job` tasks over `cpus_per_task` worker processes with the command that a person would
type (`--tasks STAGE:FIRST-LAST`), so that everything the local executor does about dying workers holds there too.
"""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.data.pipeline.config import PipelineConfig, SlurmConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.run import unfinished
from megatron_mimo.data.pipeline.step import Stage

Submit = Callable[[list[str]], str]
LAST_JOB = "finish"


@dataclass(frozen=True)
class Job:
    """One batch script, and what it stands for."""

    name: str
    script: Path
    elements: list[int]
    """Array indices to run; empty for a job that is no array."""
    text: str


def jobs_of(config: PipelineConfig, stages: Sequence[Stage], layout: Layout, command: list[str]) -> list[Job]:
    """The jobs that are still to do. `command` runs a part of this pipeline when its arguments are put after it."""
    slurm = config.executor.slurm
    assert slurm is not None
    jobs = []
    for stage in stages:
        missing = unfinished(layout, stage, range(stage.num_tasks))
        elements = sorted({index // slurm.tasks_per_job for index in missing})
        if elements:
            name = stage.name.replace("/", "-")
            text = _array_script(name, stage, slurm, layout, command)
            jobs.append(Job(name, layout.root / "slurm" / f"{name}.sh", elements, text))
    text = _script(LAST_JOB, slurm, layout, f"exec {shlex.join(command)} --finish", array=False)
    return [*jobs, Job(LAST_JOB, layout.root / "slurm" / f"{LAST_JOB}.sh", [], text)]


def submit_command(job: Job, after: str | None, slurm: SlurmConfig) -> list[str]:
    """The `sbatch` call of a job that waits for another's success."""
    call = ["sbatch", "--parsable"]
    if job.elements:
        call.append(f"--array={ranges(job.elements)}" + (f"%{slurm.max_running}" if slurm.max_running else ""))
    if after is not None:
        # Without the second option a job whose predecessor failed would wait for ever.
        call += [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"]
    return [*call, str(job.script)]


def submit(jobs: Sequence[Job], slurm: SlurmConfig, report: Callable[[str], None], run: Submit | None = None) -> None:
    """Write the scripts and hand them to SLURM, each after the one before; raises UserError where SLURM refuses."""
    after = None
    for job in jobs:
        job.script.parent.mkdir(parents=True, exist_ok=True)
        (job.script.parent / "logs").mkdir(exist_ok=True)
        job.script.write_text(job.text, encoding="utf-8")
        call = submit_command(job, after, slurm)
        after = (run or _sbatch)(call).split(";")[0]
        report(f"{job.name}: job {after}, {len(job.elements) or 1} elements: {shlex.join(call)}")


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as SLURM writes them: `0-3,7,9-10`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)


def _sbatch(call: list[str]) -> str:
    try:
        done = subprocess.run(call, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"cannot run sbatch ({error.strerror}): submit from a login node of a SLURM cluster") from error
    if done.returncode:
        raise UserError(f"SLURM refuses {shlex.join(call)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _array_script(name: str, stage: Stage, slurm: SlurmConfig, layout: Layout, command: list[str]) -> str:
    work = (
        f"first=$((SLURM_ARRAY_TASK_ID * {slurm.tasks_per_job}))\n"
        f"last=$((first + {slurm.tasks_per_job} - 1))\n"
        f"if ((last > {stage.num_tasks - 1})); then last={stage.num_tasks - 1}; fi\n"
        f'exec {shlex.join(command)} --tasks {stage.name}:"$first-$last"'
    )
    return _script(name, slurm, layout, work, array=True)


def _script(name: str, slurm: SlurmConfig, layout: Layout, work: str, array: bool) -> str:
    log = layout.root.resolve() / "slurm" / "logs" / (f"{name}-%A_%a.log" if array else f"{name}-%j.log")
    options = [
        f"--job-name={name}",
        f"--time={slurm.time}",
        f"--cpus-per-task={slurm.cpus_per_task}",
        f"--mem-per-cpu={slurm.memory_per_cpu}",
        f"--output={log}",
        "--requeue",
        *([f"--partition={slurm.partition}"] if slurm.partition else []),
        *([f"--account={slurm.account}"] if slurm.account else []),
        *slurm.options,
    ]
    head = "\n".join(["#!/usr/bin/env bash", *(f"#SBATCH {option}" for option in options)])
    setup = "\n".join(slurm.setup)
    return f"{head}\nset -euo pipefail\ncd {shlex.quote(str(Path.cwd()))}\nexport OMP_NUM_THREADS=1\n{setup}\n{work}\n"
