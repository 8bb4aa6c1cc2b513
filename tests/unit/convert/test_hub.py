"""What would be pushed, and what is refused; the hubs' clients themselves are not called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from megatron_mimo.config import UserError
from megatron_mimo.convert.hub import NEEDED_FILES, files_to_push
from support.launch import ROOT, environment
from support.patience import patience

SHARDS = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NEEDED_FILES:
        (tmp_path / name).write_text("{}")
    for tensor, shard in SHARDS.items():
        save_file({tensor: torch.ones(3)}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": SHARDS}))
    return tmp_path


def push_to_hub(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "push_to_hub.py"), str(folder), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=patience(60))


def test_dry_run_lists_every_file_with_its_size(folder: Path) -> None:
    done = push_to_hub(folder, "someone/mimo", "--hub", "modelscope", "--private", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "https://modelscope.cn/models/someone/mimo (private):"
    listed = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in lines[1:]}
    assert listed == {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_folder_that_is_not_whole_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    done = push_to_hub(folder, "someone/mimo")
    assert done.returncode == 2
    assert "tokenizer.json missing" in done.stderr


def test_a_truncated_shard_is_refused(folder: Path) -> None:
    shard = folder / SHARDS["b"]
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(UserError, match="00002-of-00002"):
        files_to_push(folder)


def test_a_tensor_that_the_index_misses_is_named(folder: Path) -> None:
    save_file({"b": torch.ones(3), "c": torch.ones(1)}, folder / SHARDS["b"])
    with pytest.raises(UserError, match=r"\['c'\]"):
        files_to_push(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt"])
def test_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match=name):
        files_to_push(folder)
