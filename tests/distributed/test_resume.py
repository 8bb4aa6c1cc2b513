"""A killed run continues as if nothing had happened: same layout bit for bit, another layout to 1e-5.

The first kill is under torchrun itself, the rest in forked ranks: the curves must be equal.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.launch import Ranks, environment, ranks, torchrun_command
from support.patience import patience
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

STEPS = 32
KILLS = 5
MODULE = ("-m", "megatron_mimo.pretrain")


def run_tree(data: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    return tiny_tree(data, folder / "run", STEPS) | {"checkpoint": {"every_steps": 4, "keep_last": 2}} | settings


def curve(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what a clock or the machine decides."""
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    timed = {"step_seconds", "tokens_per_second", "tflops_per_gpu", "memory_bytes"}
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def train(folder: Path, tree: dict[str, Any], processes: int) -> None:
    run = ranks(processes, *MODULE, str(write_run(folder, tree)))
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, run_tree(tiny_data, folder), 2)
    return curve(folder)


@pytest.fixture(scope="module")
def twelve_steps(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A folder with a run that two ranks took to step 12; its newest checkpoints are of steps 8 and 12."""
    folder = tmp_path_factory.mktemp("twelve")
    train(folder, run_tree(tiny_data, folder, max_steps=12), 2)
    return folder


def steps_logged(folder: Path) -> int:
    path = folder / "run" / "metrics.jsonl"
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []
    return max(steps, default=0)


def last_write(folder: Path) -> int:
    path = folder / "run" / "metrics.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def kill_a_rank_under_torchrun(folder: Path, config: Path, after_step: int, generator: random.Random) -> bool:
    """Start the run, `kill -9` one of its ranks once `after_step` is logged; False if it finished before."""
    process = subprocess.Popen(
        torchrun_command(2, *MODULE, str(config)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    parent = psutil.Process(process.pid)
    # An earlier kill can have logged this step already: the ranks must be there, whatever the file says.
    while process.poll() is None and (steps_logged(folder) < after_step or len(parent.children()) < 2):
        time.sleep(0.02)
    if process.poll() is None:
        generator.choice(parent.children()).send_signal(signal.SIGKILL)
    return process.wait(timeout=patience(120)) != 0


def kill_a_rank(folder: Path, config: Path, after_step: int, generator: random.Random) -> bool:
    """The same with forked ranks, which must have written a step of their own first."""
    before = last_write(folder)
    with Ranks(2, *MODULE, str(config)) as run:
        while run.poll() is None and (steps_logged(folder) < after_step or last_write(folder) == before):
            time.sleep(0.02)
        if run.poll() is None:
            generator.choice(run.ranks).kill()
        return run.wait(timeout=patience(120)) != 0


def test_kill_9_of_random_ranks_leaves_the_curve_unchanged(
    uninterrupted: list[dict[str, Any]], tmp_path: Path, tiny_data: Path
) -> None:
    generator = random.Random(2)
    config = write_run(tmp_path, run_tree(tiny_data, tmp_path))
    # 5 random steps that leave more than 10 steps after the last resume.
    for number, after_step in enumerate(sorted(generator.sample(range(3, STEPS - 12), KILLS))):
        kill = kill_a_rank if number else kill_a_rank_under_torchrun
        assert kill(tmp_path, config, after_step, generator), "the run ended before it could be killed"
    train(tmp_path, run_tree(tiny_data, tmp_path), 2)
    assert curve(tmp_path) == uninterrupted
    assert not list((tmp_path / "run" / "checkpoints").glob("*.tmp")) or steps_logged(tmp_path) == STEPS


def test_saving_in_the_background_changes_nothing(
    uninterrupted: list[dict[str, Any]], tmp_path: Path, tiny_data: Path
) -> None:
    """A rank is killed while checkpoints are written beside the steps; the run then resumes from the last whole one."""
    tree = run_tree(tiny_data, tmp_path, checkpoint={"every_steps": 4, "keep_last": 2, "asynchronous": True})
    assert kill_a_rank(tmp_path, write_run(tmp_path, tree), 17, random.Random(3))
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*") if path.suffix != ".tmp")
    assert saved and saved[-1] >= "step_00000012"
    train(tmp_path, tree, 2)
    assert curve(tmp_path) == uninterrupted


def test_signals_to_every_process_of_a_run_that_is_saving(
    uninterrupted: list[dict[str, Any]], tmp_path: Path, tiny_data: Path
) -> None:
    """As Slurm does: SIGUSR1 reaches the checkpoint writers too, which must finish all the same."""
    config = write_run(tmp_path, run_tree(tiny_data, tmp_path, checkpoint={"every_steps": 1, "keep_last": 2}))
    with Ranks(2, *MODULE, str(config)) as run:
        while run.poll() is None and steps_logged(tmp_path) < 5:
            time.sleep(0.02)
        for process in run.descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGUSR1)
        run.wait(timeout=patience(120))
        assert (tmp_path / "run" / "REQUEUE").exists(), run.stderr[-3000:]
    train(tmp_path, run_tree(tiny_data, tmp_path), 2)
    assert curve(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    ("processes", "parallel"),
    [
        (1, {}),
        (2, {"tensor_model_parallel_size": 2, "sequence_parallel": True}),
        (2, {"pipeline_model_parallel_size": 2}),
    ],
    ids=["one process", "TP2", "PP2"],
)
def test_resume_in_another_layout(
    processes: int,
    parallel: dict[str, Any],
    uninterrupted: list[dict[str, Any]],
    twelve_steps: Path,
    tmp_path: Path,
    tiny_data: Path,
) -> None:
    """Trained on DP2 to step 12, continued elsewhere: several steps, because a wrong Adam step shows late."""
    shutil.copytree(twelve_steps / "run", tmp_path / "run")
    train(tmp_path, run_tree(tiny_data, tmp_path, parallel=parallel), processes)
    resumed = [line for line in curve(tmp_path) if line["kind"] == "step"]
    expected = [line for line in uninterrupted if line["kind"] == "step"]
    assert len(resumed) == len(expected) == STEPS
    for line, other in zip(resumed, expected, strict=True):
        assert abs(line["loss"] - other["loss"]) < 1e-5 * other["loss"], line["step"]
        assert abs(line["mtp_losses"][0] - other["mtp_losses"][0]) < 1e-5 * other["mtp_losses"][0], line["step"]
        assert line["source_tokens"] == other["source_tokens"]
        assert line["learning_rate"] == other["learning_rate"]


def test_a_damaged_checkpoint_is_passed_over(twelve_steps: Path, tmp_path: Path, tiny_data: Path) -> None:
    """One flipped byte in the newest checkpoint: the run says so and continues from the one before."""
    shutil.copytree(twelve_steps / "run", tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step_00000012"
    victim = max(newest.glob("*.distcp"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    run = ranks(1, *MODULE, str(write_run(tmp_path, run_tree(tiny_data, tmp_path, max_steps=14))))
    assert run.returncode == 0, run.stderr[-3000:]
    assert "passing over the damaged checkpoint" in run.stderr
    assert "does not match its checksum" in run.stderr
    assert "step_00000008: step 8," in run.stdout


def test_every_rank_writes_an_equal_part(twelve_steps: Path) -> None:
    """Of the weights as of the optimizer; the file names say who wrote them."""
    written = [0, 0]
    for file in (twelve_steps / "run" / "checkpoints" / "step_00000012").glob("*.distcp"):
        written[int(file.name.split("_")[2])] += file.stat().st_size
    assert min(written) > 0.9 * max(written)
