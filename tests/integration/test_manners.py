"""A run as a person or a scheduler treats it: started twice, interrupted, signalled all over, killed, orphaned.

Real ranks over gloo with loader processes. The tests follow one run folder, so that each start is used for several.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.tokens.manifest import read_manifest
from megatron_mimo.platform.network import free_port
from megatron_mimo.platform.run_lock import LOCK_FILE
from support.launch import environment, pretrain
from support.patience import patience
from support.processes import is_alive
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow
LIMIT_SECONDS = 300
STEPS = 100_000
"""More than any of these runs makes."""


class Run:
    """A run folder and the processes that work in it."""

    def __init__(self, folder: Path, data: Path) -> None:
        tree = tiny_tree(data, folder / "run", STEPS)
        tree["data"]["num_workers"] = 2
        tree |= {"checkpoint": {"every_steps": 5, "keep_last": 1, "asynchronous": True}}
        self.folder, self.config = folder / "run", str(write_run(folder, tree))
        self.started: list[subprocess.Popen] = []

    def start(self, *options: str) -> subprocess.Popen:
        """`megatron-mimo pretrain`, as a terminal starts it; Python's default for SIGINT, which a shell in the
        background would have had it ignore."""
        command = [sys.executable, "-m", "megatron_mimo.pretrain", self.config, *options]
        process = subprocess.Popen(
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def steps(self) -> list[int]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return [row["step"] for row in rows if row["kind"] == "step"]

    def wait_for_steps(self, process: subprocess.Popen, more: int) -> None:
        """Until so many more steps are logged."""
        target = max(self.steps(), default=0) + more
        wait(lambda: process.poll() is not None or max(self.steps(), default=0) >= target)
        assert process.poll() is None, process.communicate()

    def saved_step(self) -> int:
        return max(int(path.name[5:]) for path in (self.folder / "checkpoints").glob("step_????????"))

    def holder(self) -> int | None:
        """The process that the folder's lock names."""
        try:
            return json.loads((self.folder / LOCK_FILE).read_text())["process_id"]
        except (FileNotFoundError, json.JSONDecodeError):  # between two holders
            return None


def wait(happened: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < patience(LIMIT_SECONDS), "it did not happen in time"
        time.sleep(0.2)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """Ranks and all that they started."""
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("manners"), tiny_data)
    yield run
    for process in run.started:
        if process.poll() is None:
            for child in family(process):
                child.kill()
            process.kill()


def test_a_second_start_is_refused_and_ctrl_c_saves(run: Run) -> None:
    first = run.start("--nproc", "2")
    run.wait_for_steps(first, 2)
    holder = run.holder()
    assert holder in [child.pid for child in family(first)]
    # A suspended run holds its folder too, and does not compete for the processors.
    for member in family(first):
        member.suspend()
    second = pretrain(run.config)
    for member in family(first):
        member.resume()
    assert second.returncode == 2
    (line,) = [line for line in second.stderr.splitlines() if "held by" in line]
    assert f"process {holder} on" in line
    assert "Traceback" not in second.stderr

    # A terminal sends it to the launcher; the ranks have sessions of their own.
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=patience(LIMIT_SECONDS))
    assert first.returncode == 85, errors
    assert "Traceback" not in errors and "torch.distributed" not in errors and "DataLoader" not in errors
    steps = run.steps()
    assert run.saved_step() == steps[-1]
    assert steps == list(range(1, steps[-1] + 1)), "two runs wrote to one file"
    command = f"python -m megatron_mimo.pretrain {run.config} --nproc 2"
    assert output.splitlines()[-1] == f"saved after step {steps[-1]}; resume with: {command}"
    assert not (run.folder / "REQUEUE").exists(), "a person does not want a scheduler to start it again"
    assert not (run.folder / LOCK_FILE).exists()


def test_sigterm_to_every_process_saves_and_asks_for_a_requeue(run: Run) -> None:
    """What Slurm does: launcher, ranks, loader processes and checkpoint writers all get the signal."""
    before = run.steps()[-1]
    process = run.start("--nproc", "2")
    run.wait_for_steps(process, 7)  # a checkpoint is being written, or has just been
    members = family(process)
    assert len(members) > 2 + 2, "ranks and loaders"
    for member in [psutil.Process(process.pid), *members]:
        member.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=patience(LIMIT_SECONDS))
    assert process.returncode == 85, errors
    assert f"step {before}," in output and "resumed from" in output
    assert "killed by signal" not in errors and "Traceback" not in errors
    assert run.saved_step() == run.steps()[-1]
    assert (run.folder / "REQUEUE").exists()
    wait(lambda: not any(is_alive(member.pid) for member in members))


def test_a_killed_rank_is_started_again_and_orphans_end(run: Run) -> None:
    process = run.start("--nproc", "2", "--max-restarts", "1", "--master-port", str(free_port()))
    run.wait_for_steps(process, 7)
    assert not (run.folder / "REQUEUE").exists()
    holder = run.holder()
    os.kill(holder, signal.SIGKILL)
    wait(lambda: process.poll() is not None or run.holder() not in (None, holder))
    run.wait_for_steps(process, 2)
    steps = run.steps()
    assert steps == list(range(1, steps[-1] + 1)), "the second attempt went on from the checkpoint"
    members = family(process)
    process.kill()
    wait(lambda: not any(is_alive(member.pid) for member in members))
    _, errors = process.communicate()
    assert "rank 0 was killed by SIGKILL" in errors and "starting the ranks again (1 of 1 restarts left)" in errors
    assert "taking over" in errors


def test_the_folder_of_a_crash_is_taken_over(run: Run) -> None:
    """Nothing but the lock of the run that was just killed stands in the way; and exit codes of ranks come through."""
    damaged = {**environment(), "MASTER_PORT": ""}
    command = [sys.executable, "-m", "megatron_mimo.pretrain", run.config, "--nproc", "2", "data.path=/nowhere"]
    done = subprocess.run(command, env=damaged, capture_output=True, text=True, timeout=patience(LIMIT_SECONDS))
    assert done.returncode == 2, done.stderr
    assert "taking over" in done.stderr
    message = [line for line in done.stderr.splitlines() if line and "taking over" not in line]
    with pytest.raises(UserError) as refused:
        read_manifest(Path("/nowhere"))
    assert message == str(refused.value).splitlines(), "one message, and nothing of torch's launcher after it"


def test_a_forecast_leaves_nothing_behind(tiny_data: Path, tmp_path: Path) -> None:
    """On a machine that does other things its number cannot be held to a quarter; it is not off by an order."""
    tree: dict[str, Any] = tiny_tree(tiny_data, tmp_path / "run", 40)
    config = str(write_run(tmp_path, tree))
    done = pretrain(config, "--forecast", "--nproc", "1")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run").exists()
    last = next(line for line in done.stdout.splitlines() if line.startswith("forecast: "))
    total = int(last.split("(")[1].split()[0])
    started = time.monotonic()
    real = pretrain(config)
    assert real.returncode == 0, real.stderr
    seconds = time.monotonic() - started
    assert seconds / 5 < total < seconds * 5
    assert " ETA " in real.stdout
    first = next(line for line in real.stdout.splitlines() if line.startswith("step      1"))
    assert "ETA" not in first
