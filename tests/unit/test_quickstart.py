"""What the quick start runs, keeps, refuses and says, with a stand-in for megatron-mimo that notes its calls."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.launch import ROOT
from support.patience import patience

STAND_IN = r"""#!/usr/bin/env bash
echo "$*" >> "$CALLS"
for word in "$@"; do case $word in output_dir=*) folder=${word#*=} ;; esac; done
case "$*" in
    *wrong*--print-config) echo "config error: wrong is unknown" >&2; exit 2 ;;
    *--print-config) ;;
    *--forecast) printf '  stage1  1M tokens  1 min\n  start-up          24 s\nforecast: 10 min 0 s (600 seconds)\n' ;;
    "$FAIL"*) exit 85 ;;
    "$WAIT"*) trap 'exit 0' INT; for _ in $(seq 200); do sleep 0.1; done ;;
    pretrain*|sft*) mkdir -p "$folder/checkpoints/step_00000010" ;;
    data*) mkdir -p "$folder" ;;
    export*) mkdir -p "$3" ;;
    evaluate-pretraining*|chat-check*) while [ $# -gt 0 ]; do [ "$1" = --output ] && touch "$2"; shift; done ;;
esac
"""


class QuickStart:
    def __init__(self, folder: Path) -> None:
        self.run, self.calls = folder / "run", folder / "calls"
        program = folder / "megatron-mimo"
        program.write_text(STAND_IN)
        program.chmod(0o755)

    def start(self, *arguments: str, fail: str = "nothing", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it with what it calls written anew to `calls`."""
        self.calls.write_text("")
        process = self.open(*arguments, fail=fail, **environment)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def open(self, *arguments: str, fail: str = "nothing", **environment: str) -> subprocess.Popen[str]:
        settings = {"BIN": str(self.calls.parent), "CALLS": str(self.calls), "FAIL": fail, "WAIT": "nothing"}
        return subprocess.Popen(
            [str(ROOT / "examples" / "nano" / "quickstart.sh"), *arguments],
            env=os.environ | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def called(self, name: str) -> list[list[str]]:
        return [words for line in self.calls.read_text().splitlines() if (words := shlex.split(line))[0] == name]


@pytest.fixture
def quick(tmp_path: Path) -> QuickStart:
    return QuickStart(tmp_path)


@pytest.mark.parametrize("place", ["--run", "RUN", "first word"])
def test_every_step_in_its_folder(quick: QuickStart, place: str) -> None:
    words = {"--run": ["--run", str(quick.run)], "RUN": [], "first word": [str(quick.run)]}[place]
    done = quick.start(*words, **({"RUN": str(quick.run)} if place == "RUN" else {}))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in quick.calls.read_text().splitlines()] == [
        "pretrain", "data", "pretrain", "pretrain", "nano-chat", "sft", "export", "export",
        "evaluate-pretraining", "chat-check", "report",
    ]  # fmt: skip
    assert "forecast of all steps from here on:" in done.stdout
    assert f"chat {quick.run}/sft_hf" in done.stdout
    assert {path.name for path in quick.run.iterdir()} >= {"data", "pretrain", "sft", "hf", "sft_hf"}


def test_overrides_reach_pre_training_and_those_of_the_model_fine_tuning(quick: QuickStart) -> None:
    assert quick.start(str(quick.run), "seed=7", "stages.0.tokens=1e6", "model.num_layers=2").returncode == 0
    for words in quick.called("pretrain"):
        assert {"seed=7", "stages.0.tokens=1e6", "model.num_layers=2"} <= set(words)
    (tuned,) = quick.called("sft")
    assert {"seed=7", "model.num_layers=2"} <= set(tuned)
    assert "stages.0.tokens=1e6" not in tuned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wrong.key=1"], "wrong is unknown"),
        (["output_dir=x"], "--run FOLDER"),
        (["a", "b"], "one folder"),
        (["-x"], "-x"),
    ],
)
def test_what_is_wrong_is_said_before_the_corpus(quick: QuickStart, words: list[str], said: str) -> None:
    done = quick.start(*words, RUN=str(quick.run))
    assert done.returncode == 2
    assert said in done.stderr
    assert not quick.called("data")


@pytest.mark.parametrize("step", ["pretrain", "sft", "chat-check"])
def test_a_step_that_fails_leaves_the_way_to_go_on_which_keeps_what_is_finished(quick: QuickStart, step: str) -> None:
    done = quick.start("--run", str(quick.run), "seed=7", fail=step)
    assert done.returncode == 85
    line = done.stderr.splitlines()[-1]
    assert "exit code 85" in line
    again = shlex.split(line.partition("Continue with:")[2])
    assert again[1:] == ["--run", str(quick.run), "seed=7"]
    assert quick.start(*again[1:]).returncode == 0
    assert len(quick.called("pretrain")) == (3 if step == "pretrain" else 1)  # settings alone are read
    assert len(quick.called("export")) == (0 if step == "chat-check" else 2)
    assert len(quick.called("evaluate-pretraining")) == (0 if step == "chat-check" else 1)


def test_an_interrupt_ends_the_script_although_the_program_ended_in_order(quick: QuickStart) -> None:
    process = quick.open("--run", str(quick.run), WAIT="nano-chat")
    while not (quick.calls.is_file() and quick.called("nano-chat")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=patience(15))
    assert process.returncode == 130
    assert "Continue with:" in errors
    assert not quick.called("sft")


def test_other_overrides_train_again(quick: QuickStart) -> None:
    quick.start("--run", str(quick.run), "seed=7")
    quick.start("--run", str(quick.run), "seed=8")
    assert len(quick.called("pretrain")) == 3


def test_the_forecast_scales_with_the_machine(quick: QuickStart) -> None:
    said = quick.start("--run", str(quick.run)).stdout
    line = next(line for line in said.splitlines() if line.startswith("forecast of all"))
    assert "pre-training 10 min" in line
    assert "took:" in said
