"""`megatron-mimo checkpoints`: what it shows, what it removes, and the run folders that it makes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_mimo.cli.checkpoints import main
from megatron_mimo.training.checkpoint_branch import link_or_copy
from megatron_mimo.training.checkpoint_files import damage, newest_checkpoint, step_folder
from megatron_mimo.training.checkpoint_record import read_record
from support.records import write_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 40 steps, a checkpoint each 10."""
    folder = tmp_path / "run"
    for step in (10, 20, 30, 40):
        write_checkpoint(folder / "checkpoints", step)
    settings: dict[str, Any] = {
        "name": "unit",
        "output_dir": str(folder),
        "checkpoint": {"keep_last": 1, "keep_every_tokens": 2000},
        "stages": [{"name": "one", "tokens": 5000, "ended_after_tokens": 4000, "mixture": "mixtures/one.yaml"}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "mixtures").mkdir()
    (folder / "mixtures" / "one.yaml").write_text("sources: {web: 1}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 41)))
    return folder


def steps(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step_")) for path in (run / "checkpoints").iterdir())


def flip(run: Path, step: int) -> None:
    file = run / "checkpoints" / step_folder(step) / "__0_0.distcp"
    file.write_bytes(b"W" + file.read_bytes()[1:])


def test_the_list(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(run / "checkpoints", 0, weights_only=True)
    assert main([str(run)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line.split()[0] for line in lines] == ["0", "10", "20", "30", "40"]
    assert "weights to start from" in lines[0]
    assert "1K" in lines[1] and "goes with a later save complete, not read" in lines[1]
    assert "first after a multiple of 2K tokens" in lines[2]
    assert "the newest" in lines[4]
    assert main([str(run / "checkpoints"), "--verify"]) == 0
    assert capsys.readouterr().out.count(" verified") == 5


def test_verify_reads_every_byte(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run, 20)
    assert main([str(run)]) == 0
    assert main([str(run), "--verify"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "DAMAGED" in line]
    assert line.split()[0] == "20" and "__0_0.distcp does not match its checksum" in line


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--prune", "2"], [30, 40]),
        (["--prune", "9"], [10, 20, 30, 40]),
        (["--prune", "1", "--keep-every", "2e3"], [20, 40]),
        (["--prune", "1", "--dry-run"], [10, 20, 30, 40]),
    ],
)
def test_prune(arguments: list[str], left: list[int], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), *arguments]) == 0
    assert steps(run) == left
    gone = [] if arguments[1] == "9" else [10]
    assert [f"/{step_folder(10)} (" in line for line in capsys.readouterr().out.splitlines()].count(True) == len(gone)


def test_prune_counts_sound_ones_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run, 40)
    flip(run, 30)
    flip(run, 10)
    assert main([str(run), "--prune", "1"]) == 0
    assert steps(run) == [20, 30, 40], "the only sound one, and what is newer"
    flip(run, 20)
    capsys.readouterr()
    assert main([str(run), "--prune", "1"]) == 2
    assert "none of the 3 checkpoints" in capsys.readouterr().err
    assert steps(run) == [20, 30, 40]


def test_prune_leaves_links_and_weights_alone(run: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", 5)
    (run / "checkpoints" / step_folder(5)).symlink_to(other)
    write_checkpoint(run / "checkpoints", 0, weights_only=True)
    assert main([str(run), "--prune", "1"]) == 0
    assert steps(run) == [0, 5, 40]
    assert damage(other, hash_files=True) is None


def test_a_link_does_not_stand_for_a_checkpoint_of_its_own(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints" / step_folder(50)).symlink_to(write_checkpoint(tmp_path / "other", 50))
    assert main([str(run), "--prune", "1"]) == 0
    assert steps(run) == [40, 50]


def test_prune_leaves_the_folder_of_a_working_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from megatron_mimo.platform.run_lock import Holder, run_lock

    with run_lock(run):
        assert Holder.here().is_alive
        assert main([str(run), "--prune", "1"]) == 2
    assert "is held by process" in capsys.readouterr().err
    assert steps(run) == [10, 20, 30, 40]


def test_a_branch_is_a_run_folder_of_its_own(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "branch of it"
    assert main([str(run), "--branch-from", "20", str(new)]) == 0
    assert f"megatron-mimo pretrain '{new}/config.yaml'" in capsys.readouterr().out
    assert steps(new) == [20]
    found = newest_checkpoint(new / "checkpoints", hash_files=True)
    assert found is not None and read_record(found).progress.step == 20
    settings = yaml.safe_load((new / "config.yaml").read_text())
    assert settings["output_dir"] == str(new)
    assert settings["stages"] == [{"name": "one", "tokens": 5000, "mixture": "mixtures/one.yaml"}]
    assert (new / "mixtures" / "one.yaml").is_file()
    assert len((new / "metrics.jsonl").read_text().splitlines()) == 20
    assert main([str(run), "--prune", "1"]) == 0
    assert damage(found, hash_files=True) is None, "the branch does not depend on the run that it came from"


@pytest.mark.parametrize(("program", "facts"), [("rl", {"driver": {}}), ("sft", {}), ("pretrain", {"world_size": 4})])
def test_the_command_goes_on_with_the_same_program(
    program: str, facts: dict[str, Any], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(run / "checkpoints", 50, **facts)
    if program == "sft":
        (run / "sft.yaml").write_text("output_dir: run\n")
    assert main([str(run), "--branch-from", "50", str(tmp_path / "new")]) == 0
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command.startswith(f"megatron-mimo {program} {tmp_path}/new/")
    assert command.endswith("--nproc 4") == (program == "pretrain")
    assert (tmp_path / "new" / "command.txt").read_text().strip() == command


def test_what_cannot_be_branched(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run, 30)
    write_checkpoint(run / "checkpoints", 0, weights_only=True)
    (tmp_path / "there").mkdir()
    for step, new, said in (
        ("30", "new", "is damaged"),
        ("15", "new", "checkpoints of the steps 0, 10, 20, 30, 40"),
        ("0", "new", "start.checkpoint"),
        ("20", "there", "exists"),
        ("x", "new", "is no step"),
    ):
        assert main([str(run), "--branch-from", step, str(tmp_path / new)]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "there"]


def test_a_file_system_without_links_gets_copies(tmp_path: Path) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    (tmp_path / "a").write_text("content")
    link_or_copy(tmp_path / "a", tmp_path / "b", refused)
    link_or_copy(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "b").read_text() == "content"
    assert os.path.samefile(tmp_path / "a", tmp_path / "c") and not os.path.samefile(tmp_path / "a", tmp_path / "b")


def test_a_folder_without_checkpoints_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "has no checkpoints" in capsys.readouterr().err
