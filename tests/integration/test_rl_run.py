"""RL from the command line with every real part: trainer rank, vLLM engine, Math-Verify; killed, stopped, resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.rl.problems.problem import Problem, write_problems
from megatron_mimo.rl.rows import read_rows
from support.known_models import MODEL, coin_model
from support.launch import python
from support.needs import needs
from support.patience import patience
from support.processes import is_alive

needs("ray", "vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NUM_STEPS, PATIENCE_SECONDS = 4, 300


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that is right half of the times, and problems whose answer is 1. After six steps all are solved always,
    and no batch can be filled any more."""
    root = tmp_path_factory.mktemp("rl")
    import_checkpoint(coin_model(root / "hf"), root / "start" / "step_00000000")
    for name, count in (("train", 24), ("valid", 16)):
        problems = [Problem(id=f"{name}{n}", prompt=f"{name} {n}", kind="math", answer="1") for n in range(count)]
        write_problems(root / f"{name}.jsonl", problems)
    tree: dict[str, Any] = {
        "name": "coin",
        "output_dir": str(root / "run"),
        "num_threads": 1,
        "model": vars(MODEL),
        "start": {"checkpoint": str(root / "start")},
        "data": {
            "train": [str(root / "train.jsonl")],
            "valid": [str(root / "valid.jsonl")],
            "tokenizer": str(root / "tokenizer"),
            "max_prompt_tokens": 64,
        },
        "reward": {"num_math_workers": 1},
        "rollout": {"num_groups": 4, "samples_per_prompt": 8, "generation": {"max_new_tokens": 16}},
        "engine": {
            "num_engines": 1,
            "weight_transfer": "broadcast",
            "max_concurrent_requests": 32,
            "memory_bytes": 1 << 26,
        },
        "num_steps": NUM_STEPS,
        "mini_batch_groups": 2,
        "micro_batch_tokens": 512,
        "learning_rate": 0.02,
        "precision": {"dtype": "fp32"},
        "validation_interval_steps": NUM_STEPS,
        "validation_samples": 8,
        "checkpoint": {"every_steps": 1, "keep_last": 2},
    }
    path = root / "rl.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


class Run:
    """The program in a process group of its own, and its output so far."""

    def __init__(self, config: Path, number: int) -> None:
        self.log = config.parent / f"log{number}.txt"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-u", "-m", "megatron_mimo.rl", str(config)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + patience(PATIENCE_SECONDS)
        while text not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def ended(self) -> int:
        return self.process.wait(patience(PATIENCE_SECONDS))


def test_a_policy_learns_through_a_kill_and_a_stop(config: Path) -> None:
    run_folder = config.parent / "run"
    first = Run(config, 1)
    first.wait_for("checkpoint after step 1")
    family = psutil.Process(first.process.pid).children(recursive=True)
    # Ray's agents look for their parent from time to time only; engines, trainer and verifiers must be gone.
    commands = {process: process.cmdline() for process in family if "Agent" not in process.name()}
    for process in [first.process, *(process for process in commands if "TrainerRank" in process.name())]:
        process.send_signal(signal.SIGKILL)
    first.ended()
    _, alive = psutil.wait_procs(commands, timeout=patience(60))
    assert not [commands[process] for process in alive if is_alive(process.pid)]

    second = Run(config, 2)
    second.wait_for("resumes after step")
    second.wait_for("checkpoint after step")
    second.process.send_signal(signal.SIGTERM)
    assert second.ended() == 85, second.log.read_text()[-3000:]
    assert (run_folder / "REQUEUE").read_text().startswith("python")

    third = Run(config, 3)
    assert third.ended() == 0, third.log.read_text()[-3000:]
    assert not (run_folder / "REQUEUE").exists()

    rows = read_rows(run_folder / "metrics.jsonl")
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, NUM_STEPS + 1))
    before, after = (row for row in rows if row["kind"] == "validation")
    # 128 fair coins: 0.5 +- 0.13 at three standard deviations.
    assert abs(before["solved"] - 0.5) < 0.15
    assert after["solved"] > before["solved"] + 0.2
    launched = sum(sum(row["outcomes"].values()) for row in steps)
    saved = json.loads((run_folder / "checkpoints" / f"step_{NUM_STEPS:08}" / "run.json").read_text())
    assert saved["driver"]["scheduler"]["next_launch"] == launched
    assert saved["chat_trained"] is True
    assert "held-out pass@1" in (run_folder / "report.html").read_text()


def test_bad_settings_are_told_before_anything_starts(config: Path) -> None:
    def message(*overrides: str) -> str:
        done = python("-m", "megatron_mimo.rl", str(config), *overrides)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "no such file" in message("data.train=[missing.jsonl]").lower()
    assert "mini_batch_groups" in message("mini_batch_groups=3")
    assert "temperature" in message("rollout.generation.temperature=0.6")
