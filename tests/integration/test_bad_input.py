"""What users get wrong, and what they are told: cause and way out on one screen, exit code not 0, nothing lost.

The program runs in forked processes; where it says `cold_start`, it is started as a user does.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.launch import Ranks, cold_start, environment, pretrain, python
from support.patience import patience
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

SCREEN_LINES = 25


def fails_with(run: subprocess.CompletedProcess, *fragments: str) -> None:
    """A message, not a traceback: every fragment is in it, and it fits on one screen."""
    assert run.returncode == 2, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    message = [line for line in run.stderr.splitlines() if line.strip() and "Warning" not in line]
    assert len(message) <= SCREEN_LINES, run.stderr
    for fragment in fragments:
        assert fragment in run.stderr, f"{fragment!r} is not in:\n{run.stderr}"


@pytest.fixture
def tree(tiny_data: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of 2 steps on a copy of the data that a test may damage."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    return tiny_tree(data, tmp_path / "run", 20) | {"max_steps": 2}


@pytest.mark.parametrize("suffix", ["idx", "bin"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt"])
def test_damaged_data_files(suffix: str, damage: str, tree: dict[str, Any], tmp_path: Path) -> None:
    victim = tmp_path / "data" / f"prose_train.{suffix}"
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.write_bytes(bytes([content[0] ^ 255]) + content[1:])
    fails_with(pretrain(str(write_run(tmp_path, tree))), f"prose_train.{suffix}")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_tokenizer_that_does_not_match_the_data(tree: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "data" / "tokenizer", other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + "\n")
    tree["data"]["tokenizer"] = str(other)
    run = cold_start("-m", "megatron_mimo.pretrain", str(write_run(tmp_path, tree)))
    fails_with(run, "tokenizer", str(other))


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["model.vocab_size=321", "parallel.tensor_model_parallel_size=2"], ["model.vocab_size = 321", "pad"]),
        (["model.num_layers=5", "parallel.pipeline_model_parallel_size=2"], ["model.num_layers = 5", "not divisible"]),
        (["stages.0.tokens=12345"], ["tokens = 12345", "add up to 7680"]),
        (["model.num_layer=3"], ["unknown key", "did you mean", "model.num_layers"]),
        (["precision.fp8_recipe=tensorwise", "precision.dtype=bf16"], ["fp8_recipe = 'tensorwise'", "fp8_recipe=none"]),
        (["precision.backend=transformer_engine"], ["precision.backend", "set precision.backend=torch or auto"]),
        (["stages.0.global_batch_size=7"], ["global_batch_size = 7", "multiple of micro_batch_size=2"]),
        (["parallel.tensor_model_parallel_size=2"], ["TP x PP x CP = 2", "does not divide the 1 ranks"]),
    ],
)
def test_impossible_configurations(overrides: list[str], fragments: list[str], tiny_data: Path, tmp_path: Path) -> None:
    config = write_run(tmp_path, tiny_tree(tiny_data, tmp_path / "run"))
    fails_with(pretrain(str(config), *overrides, CUDA_VISIBLE_DEVICES=""), *fragments)
    assert not (tmp_path / "run").exists()


def test_vocabulary_smaller_than_the_tokenizer(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["model"]["vocab_size"] = 256
    fails_with(pretrain(str(write_run(tmp_path, tree))), "model.vocab_size = 256", "300")


def test_checkpoint_of_another_architecture(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["checkpoint"] = {"every_steps": 2}
    config = write_run(tmp_path, tree)
    assert pretrain(str(config)).returncode == 0
    saved = tmp_path / "run" / "checkpoints" / "step_00000002"
    before = sorted((path.name, path.read_bytes()) for path in saved.iterdir())
    fails_with(
        pretrain(str(config), "model.ffn_hidden_size=128", "max_steps=4"),
        "another architecture",
        "model.ffn_hidden_size: checkpoint 96, configuration 128",
        "new output_dir",
    )
    assert sorted((path.name, path.read_bytes()) for path in saved.iterdir()) == before


def test_port_in_use(tree: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = pretrain(
            str(write_run(tmp_path, tree)), RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
        )
    fails_with(run, f"127.0.0.1:{port}", "--master-port")


def test_a_finished_run_started_again_changes_nothing(tree: dict[str, Any], tmp_path: Path) -> None:
    config = str(write_run(tmp_path, tree | {"checkpoint": {"every_steps": 100}}))
    assert pretrain(config).returncode == 0
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    written = (checkpoint / "run.json").stat().st_mtime_ns
    again = pretrain(config)
    assert again.returncode == 0, again.stderr
    assert (checkpoint / "run.json").stat().st_mtime_ns == written


def test_a_damaged_checkpoint_is_passed_over_and_replaced(tree: dict[str, Any], tmp_path: Path) -> None:
    config = str(write_run(tmp_path, tree | {"checkpoint": {"every_steps": 1}}))
    assert pretrain(config).returncode == 0
    _, checkpoint = sorted((tmp_path / "run" / "checkpoints").iterdir())
    victim = next(checkpoint.glob("*.distcp"))
    victim.write_bytes(victim.read_bytes()[:-1])
    again = pretrain(config)
    assert again.returncode == 0, again.stderr
    assert checkpoint.name in again.stdout + again.stderr
    assert victim.stat().st_size == len(victim.read_bytes()) and pretrain(config).returncode == 0
    assert "resumed from" in pretrain(config).stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB: room for one checkpoint of the tiny model, not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder]).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


FILES_STAY_SMALL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
sys.argv = ["megatron_mimo.pretrain", *sys.argv[1:]]
runpy.run_module("megatron_mimo.pretrain", run_name="__main__")
"""


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_write_that_fails(tree: dict[str, Any], tmp_path: Path, asynchronous: bool) -> None:
    tree |= {"checkpoint": {"every_steps": 2, "asynchronous": asynchronous}, "max_steps": 4}
    config = write_run(tmp_path, tree)
    fails_with(
        python("-c", FILES_STAY_SMALL, str(config)), "step_00000002.tmp could not be written: ", "Free some space"
    )
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert pretrain(str(config)).returncode == 0


def test_full_disk_before_and_during_a_save(tree: dict[str, Any], small_disk: Path, tmp_path: Path) -> None:
    tree |= {"checkpoint": {"every_steps": 2}, "output_dir": str(small_disk / "run"), "max_steps": 2}
    config = write_run(tmp_path, tree)
    assert pretrain(str(config)).returncode == 0
    first = small_disk / "run" / "checkpoints" / "step_00000002"
    before = sorted((path.name, path.read_bytes()) for path in first.iterdir())
    log = small_disk / "run" / "metrics.jsonl"
    later = ("max_steps=40", "checkpoint.every_steps=40", "checkpoint.keep_last=1")
    with Ranks(0, "-m", "megatron_mimo.pretrain", str(config), *later) as run:
        while run.poll() is None and '"step":3,' not in log.read_text().replace(" ", ""):
            time.sleep(0.01)
        (small_disk / "other_data").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * 4096 - 800_000))
        filled = run.completed(patience(300))
    fails_with(filled, "no room for the checkpoint", "Earlier checkpoints are untouched")
    fails_with(pretrain(str(config), "max_steps=4"), "not enough room for this run", "Free some space")
    assert sorted((path.name, path.read_bytes()) for path in first.iterdir()) == before
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    (small_disk / "other_data").unlink()
    again = pretrain(str(config), "max_steps=4", "checkpoint.keep_last=1")
    assert again.returncode == 0, again.stderr
    assert "step 2," in again.stdout


def test_usage_without_arguments() -> None:
    run = cold_start("-m", "megatron_mimo.pretrain")
    assert run.returncode == 2
    assert "CONFIG.yaml" in run.stdout


def test_missing_configuration(tmp_path: Path) -> None:
    fails_with(cold_start("-m", "megatron_mimo.pretrain", str(tmp_path / "absent.yaml")), "absent.yaml")


def test_environment_helper_hides_torchrun() -> None:
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT"} & environment().keys()
