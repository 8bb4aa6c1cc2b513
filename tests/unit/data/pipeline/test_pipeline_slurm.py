"""Batch scripts: what is submitted, in which order, for which tasks."""

import shutil
import subprocess
from pathlib import Path

import pytest

from megatron_mimo.config.load import from_tree
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.guard import claim_folder
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.run import make_executor, run_stage
from megatron_mimo.data.pipeline.slurm import Job, jobs_of, ranges, submit


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(25):
        (raw / f"{number:02d}.jsonl").write_text('{"text": "some text"}\n')
    tree = {
        "output_dir": str(tmp_path / "a folder's out"),
        "num_tasks": 25,
        "executor": {
            "slurm": {
                "tasks_per_job": 10,
                "max_running": 2,
                "partition": "cpu",
                "options": ["--qos=low"],
                "setup": ["x=1"],
            }
        },
        "stages": [
            {"name": "pages", "reader": {"kind": "jsonl", "files": [f"{raw}/*"]}},
            {"name": "unique", "num_tasks": 1, "steps": [{"step": "exact_dedup"}]},
        ],
    }
    return from_tree(PipelineConfig, tree, source="test")


def jobs(config: PipelineConfig) -> list[Job]:
    return jobs_of(config, stages_of(config), claim_folder(config), ["python", "tool.py", "--config", "a b.yaml"])


def test_chain_of_arrays(config: PipelineConfig) -> None:
    calls: list[list[str]] = []

    def sbatch(call: list[str]) -> str:
        calls.append(call)
        return f"{100 + len(calls)};cluster"

    slurm = config.executor.slurm
    assert slurm is not None
    submit(jobs(config), slurm, lambda line: None, sbatch)
    dependency = "--kill-on-invalid-dep=yes"
    assert [call[1:-1] for call in calls] == [
        ["--parsable", "--array=0-2%2"],
        ["--parsable", "--array=0%2", "--dependency=afterok:101", dependency],
        ["--parsable", "--dependency=afterok:102", dependency],
    ]
    assert all(Path(call[-1]).is_file() for call in calls)


def test_only_what_is_not_done_is_submitted(config: PipelineConfig) -> None:
    layout = claim_folder(config)
    pages = stages_of(config)[0]
    executor = make_executor(config)
    executor.num_workers = 0  # type: ignore[attr-defined]
    run_stage(pages, [*range(10), *range(20, 25)], executor, layout, "", lambda line: None)
    assert [(job.name, job.elements) for job in jobs(config)] == [("pages", [1]), ("unique", [0]), ("finish", [])]
    run_stage(pages, range(25), executor, layout, "", lambda line: None)
    assert [(job.name, job.elements) for job in jobs(config)] == [("unique", [0]), ("finish", [])]


def test_scripts_are_sound_shell(config: PipelineConfig, tmp_path: Path) -> None:
    for job in jobs(config):
        script = tmp_path / f"{job.name}.sh"
        script.write_text(job.text)
        subprocess.run(["bash", "-n", script], check=True)
        if shutil.which("shellcheck"):
            done = subprocess.run(
                ["shellcheck", "--exclude=SC2034", script], capture_output=True, text=True
            )  # SC2034: the setup line of this test
            assert done.returncode == 0, done.stdout
        assert "#SBATCH --partition=cpu" in job.text and "#SBATCH --qos=low" in job.text and "\nx=1\n" in job.text


@pytest.mark.parametrize(("element", "expected"), [(0, "pages:0-9"), (1, "pages:10-19"), (2, "pages:20-24")])
def test_an_element_runs_its_tasks(config: PipelineConfig, tmp_path: Path, element: int, expected: str) -> None:
    """The script itself, with a program that prints its arguments in the place of ours."""
    layout = claim_folder(config)
    script = jobs_of(config, stages_of(config), layout, ["printf", "%s|", "--config", "a b.yaml"])[0].text
    done = subprocess.run(
        ["bash", "-c", script], env={"SLURM_ARRAY_TASK_ID": str(element)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"--config|a b.yaml|--tasks|{expected}|"


def test_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert ranges([4]) == "4"
