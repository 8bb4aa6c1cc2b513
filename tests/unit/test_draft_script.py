"""What examples/nano/draft.sh runs, with a stand-in for megatron-mimo that notes its calls."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from megatron_mimo.config import SFTConfig, load
from support.launch import ROOT

STAND_IN = r"""#!/usr/bin/env bash
printf '%q ' "$@" >> "$CALLS"; echo >> "$CALLS"
for word in "$@"; do case $word in output_dir=*) folder=${word#*=} ;; esac; done
case "$*" in
    sft*) mkdir -p "$folder/checkpoints/step_00000010" ;;
    export*) mkdir -p "$3" ;;
esac
"""
FORMS = ("copies", "recursive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "megatron-mimo"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    (tmp_path / "run" / "chat").mkdir(parents=True)
    (tmp_path / "run" / "chat" / "train.jsonl").write_text("{}\n" * 50)
    return tmp_path


def start(folder: Path, *arguments: str, **environment: str) -> list[list[str]]:
    calls = folder / "calls"
    calls.write_text("")
    settings = {"BIN": str(folder / "bin"), "CALLS": str(calls), "PROMPTS": "20"} | environment
    command = [str(ROOT / "examples" / "nano" / "draft.sh"), str(folder / "run"), *arguments]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in calls.read_text().splitlines()]


def test_every_form_is_trained_exported_and_compared(folder: Path) -> None:
    calls = start(folder, "model.num_layers=12", SEEDS="1 2")
    draft = folder / "run" / "draft"
    assert (draft / "given.jsonl").read_text() == "{}\n" * 20
    (distilled,) = [call for call in calls if call[0] == "self-distill"]
    assert distilled[1] == str(draft / "given.jsonl") and str(folder / "run" / "sft_hf") in distilled
    trained = {}
    for call in (call for call in calls if call[0] == "sft"):
        config = load(SFTConfig, [word for word in call[1:] if word not in ("--nproc", "2")])
        trained[Path(config.output_dir).name] = config
    wanted = {f"{form}-untrained" for form in FORMS}
    wanted |= {f"{form}-{answers}-{seed}" for form in FORMS for answers in ("given", "own") for seed in (1, 2)}
    assert trained.keys() == wanted
    for name, config in trained.items():
        form = (config.model.mtp_num_layers, config.model.mtp_recursive_steps, config.start.train)
        assert form == ((3, 1, "new_mtp_layers") if name.startswith("copies") else (1, 3, "mtp_layers"))
        assert config.model.num_layers == 12
        assert config.data.sources[0].path == str(draft / ("own/answers.jsonl" if "own" in name else "given.jsonl"))
        assert (config.learning_rate, config.max_steps) == ((0, 1) if "untrained" in name else (1e-3, None))
        assert "untrained" in name or config.seed == int(name[-1])
    exported = {call[2] for call in calls if call[0] == "export"}
    assert exported == {str(draft / name / "hf") for name in wanted}
    (compared,) = [call for call in calls if call[0] == "compare-drafts"]
    small = [call[1] for call in calls if call[0] == "draft-vocabulary"]
    assert small == [str(draft / f"{form}-own-1" / "hf_vocabulary") for form in FORMS]
    models = [word.partition("=") for word in compared[1 : compared.index("--prompts")]]
    assert {place for _, _, place in models} == exported | {*small}
    assert len({name for name, _, _ in models}) == len(models)


def test_finished_steps_are_kept(folder: Path) -> None:
    """Trainings and answers go on by themselves; exports are not made again."""
    first, second = start(folder), start(folder)
    names = [[call[0] for call in calls] for calls in (first, second)]
    assert "export" in names[0] and "export" not in names[1]
    assert [name for name in names[0] if name != "export"] == names[1]
