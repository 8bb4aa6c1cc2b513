"""The batch script under a real Slurm on this machine: pre-empted, saved, requeued, resumed to the same curve."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.launch import ROOT, environment, free_port, ranks
from support.patience import patience

pytestmark = pytest.mark.slow

BATCH_SCRIPT = ROOT / "examples" / "pretrain_mimo7b.sh"
ONE_NODE = ROOT / "examples" / "slurm" / "one_node.sh"
CONFIG = "examples/nano/pretrain.yaml"
STEPS = 60
PROCESSES = 2
FINAL_STATES = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}

needs_slurm = pytest.mark.skipif(
    not all(shutil.which(program) for program in ("slurmctld", "slurmd", "munged")),
    reason="needs the Debian packages slurm-wlm and munge",
)


class Slurm:
    """The command line of one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = environment(SLURM_CONF=str(folder / "slurm.conf"), VENV=sys.prefix)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, env=self.variables, cwd=ROOT, capture_output=True, text=True, timeout=patience(60)
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *arguments: str) -> str:
        return self.run("sbatch", "--parsable", *arguments)

    def show(self, job: str, field: str) -> str:
        """One field of `scontrol show job`, which knows ended jobs too; empty when the controller does not answer."""
        shown = self.run("scontrol", "show", "job", job, check=False)
        fields = dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)
        return fields.get(field, "")

    def has_ended(self, job: str) -> bool:
        """Between a requeue and its next start a job is PENDING, so one look at a final state is enough."""
        return self.show(job, "JobState") in FINAL_STATES

    def skip_requeue_delay(self, job: str) -> None:
        """Slurm holds a requeued job back for two minutes."""
        if self.show(job, "Reason") == "BeginTime":
            # Started in the second of its requeue, a job is killed: slurmd still holds its credential for revoked.
            time.sleep(3)
            self.run("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    ports = {"SLURMCTLD_PORT": str(free_port()), "SLURMD_PORT": str(free_port())}
    subprocess.run([str(ONE_NODE), "start", str(folder)], check=True, env=os.environ | ports, timeout=patience(120))
    cluster = Slurm(folder)
    yield cluster
    cluster.run("scancel", "--signal=KILL", "--full", "--state=RUNNING", check=False)
    subprocess.run([str(ONE_NODE), "stop", str(folder)], check=True, timeout=patience(60))


def overrides(data: Path, mixture: Path, output_dir: Path) -> list[str]:
    """The nano configuration on the tiny data, cut short."""
    return [
        f"output_dir={output_dir}",
        f"data.path={data}",
        f"data.tokenizer={data / 'tokenizer'}",
        *(f"stages.{index}.mixture={mixture}" for index in range(3)),
        f"max_steps={STEPS}",
        "logging.every_steps=1",
    ]


def read_steps(output_dir: Path) -> list[dict]:
    path = output_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return [row for row in rows if row["kind"] == "step"]


def wait_until(condition: Callable[[], bool], slurm: Slurm, job: str, log: Path, seconds: float = 240) -> None:
    """Poll; fails with the job's log when the job ends first or time runs out."""
    deadline = time.monotonic() + patience(seconds)
    while not condition():
        waiting = not slurm.has_ended(job) and time.monotonic() < deadline
        assert waiting or condition(), "\n".join(evidence(slurm, job, log))
        time.sleep(0.2)


def evidence(slurm: Slurm, job: str, log: Path) -> Iterator[str]:
    """What Slurm and the job say of a job that did not do what it should."""
    yield slurm.run("scontrol", "show", "job", job, check=False)
    for path in (log, slurm.folder / "slurmctld.log"):
        yield f"{path.name}:\n{path.read_text()[-6000:] if path.exists() else 'was not written'}"


@needs_slurm
def test_preempted_job_resumes_to_the_same_curve(slurm: Slurm, tiny_data: Path, tmp_path: Path) -> None:
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("sources: {prose: 0.6, digits: 0.4}\n")
    straight = tmp_path / "straight"
    done = ranks(PROCESSES, "-m", "megatron_mimo.pretrain", CONFIG, *overrides(tiny_data, mixture, straight))
    assert done.returncode == 0, done.stderr[-4000:]

    output_dir, log = tmp_path / "run", tmp_path / "job.log"
    slurm.variables["PROCESSES_PER_NODE"] = str(PROCESSES)
    options = ["--nodes=1", "--gpus-per-node=0", f"--output={log}"]
    job = slurm.submit(*options, str(BATCH_SCRIPT), CONFIG, *overrides(tiny_data, mixture, output_dir))

    def steps_of_restart(restarts: int, steps: int) -> Callable[[], bool]:
        def reached() -> bool:
            slurm.skip_requeue_delay(job)
            return slurm.show(job, "Restarts") == str(restarts) and len(read_steps(output_dir)) >= steps

        return reached

    def has_ended() -> bool:
        slurm.skip_requeue_delay(job)
        return slurm.has_ended(job)

    # First as at a time limit, a signal to the batch shell; then pre-empted by a job of higher priority.
    wait_until(steps_of_restart(restarts=0, steps=8), slurm, job, log)
    slurm.run("scancel", "--signal=TERM", "--batch", job)
    wait_until(steps_of_restart(restarts=1, steps=len(read_steps(output_dir)) + 8), slurm, job, log)
    slurm.submit("--partition=urgent", "--exclusive", f"--output={tmp_path / 'urgent.log'}", "--wrap=sleep 1")
    wait_until(has_ended, slurm, job, log)

    text = log.read_text()
    assert f"job {job}, start 3" in text, text
    assert text.count("saved and stopped on request") == 2
    assert "training ended with exit code 0" in text
    assert not (output_dir / "REQUEUE").exists()
    expected, actual = read_steps(straight), read_steps(output_dir)
    assert [row["step"] for row in actual] == list(range(1, STEPS + 1))
    for key in ("loss", "mtp_losses", "grad_norm", "consumed_tokens", "learning_rate", "source_tokens"):
        assert [row[key] for row in actual] == [row[key] for row in expected], key


@needs_slurm
def test_failed_training_is_not_requeued(slurm: Slurm, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    options = ["--nodes=1", "--gpus-per-node=0", f"--output={log}"]
    job = slurm.submit(*options, str(BATCH_SCRIPT), CONFIG, f"output_dir={tmp_path / 'run'}", "data.path=/nowhere")
    wait_until(lambda: slurm.has_ended(job), slurm, job, log)
    text = log.read_text()
    assert "training ended with exit code 1" in text
    assert "start 2" not in text


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", [BATCH_SCRIPT, ONE_NODE], ids=lambda path: path.name)
def test_scripts_pass_shellcheck(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
