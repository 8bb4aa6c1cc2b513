"""What a run needs on the disk, counted by hand and by a simulation of its saves."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import LoRAConfig, PretrainConfig, StartConfig, UserError, load
from megatron_mimo.training import disk
from megatron_mimo.training.disk import check_disk, checkpoint_bytes, disk_need, saves_left
from support.tiny import tiny_config, tiny_tree

ROOT = Path(__file__).parents[3]


def tiny(folder: Path, steps: int = 40, **checkpoint: Any) -> PretrainConfig:
    tree = tiny_tree(Path("data"), folder, steps)
    return tiny_config(tree | {"checkpoint": {"every_steps": 4, "keep_last": 2} | checkpoint})


def with_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, int(free)))


def test_a_checkpoint_of_mimo_7b() -> None:
    """7,833,409,536 parameters (weights in bf16), 12 bytes of fp32 states each."""
    config = load(PretrainConfig, [str(ROOT / "examples/mimo_7b/pretrain.yaml")])
    assert checkpoint_bytes(config) == pytest.approx(7_833_409_536 * 14, rel=0.03)
    need = disk_need(config, Path("/nowhere"))
    assert need.checkpoints == config.checkpoint.keep_last + 1
    assert need.milestones == 23  # a checkpoint every 1e12 of 23.784e12 tokens


def test_what_is_frozen_has_no_optimizer_states(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    weights, everything = 4 * 204_288, checkpoint_bytes(config)
    start = StartConfig(checkpoint="c")
    low_rank = replace(config, start=start, lora=LoRAConfig(rank=1))
    # A and B of every linear layer by hand: h 64, q 64, k and v 32 each, f 96; 4 layers, 1 MTP layer with [2h -> h].
    per_layer = (64 + 128) + (64 + 64) + (64 + 192) + (96 + 64)
    assert checkpoint_bytes(low_rank) == pytest.approx(weights + 16 * (5 * per_layer + 192) + 400_000, rel=0.03)
    new_layers = replace(config, start=StartConfig(checkpoint="c", train="new_mtp_layers"))
    assert weights < checkpoint_bytes(low_rank) < checkpoint_bytes(new_layers) < everything


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("done", [0, 3, 4, 38, 40])
@pytest.mark.parametrize("steps", [3, 4, 40, 41])
def test_saves_left_are_those_of_the_loop(steps: int, done: int, at_end: bool) -> None:
    settings = replace(tiny(Path("run")).checkpoint, save_at_end=at_end)
    saved = [step for step in range(done + 1, steps + 1) if step % 4 == 0 or (at_end and step == steps)]
    assert saves_left(settings, steps, done) == len(saved)


@pytest.mark.parametrize("keep_last", [1, 2, 5])
@pytest.mark.parametrize("there", [[], [4], [4, 8], [4, 8, 12]])
def test_the_most_checkpoints_at_a_time(keep_last: int, there: list[int], tmp_path: Path) -> None:
    config = tiny(tmp_path, steps=18, keep_last=keep_last)
    there = there[-keep_last:]
    for step in there:
        (tmp_path / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
    # As the checkpointer does: write the new one, then remove the oldest.
    present, most = list(there), len(there)
    for step in range((there or [0])[-1] + 1, 19):
        if step % 4 == 0 or step == 18:
            present.append(step)
            most = max(most, len(present))
            present = present[-keep_last:]
    assert disk_need(config, tmp_path).checkpoints == most - len(there)


def test_a_run_that_will_not_fit_is_refused_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(tmp_path / "new" / "run")
    need = disk_need(config, tmp_path / "new" / "run")
    with_free(monkeypatch, need.bytes)
    assert check_disk(config, tmp_path / "new" / "run") == []
    with_free(monkeypatch, need.bytes - 1)
    with pytest.raises(UserError) as refused:
        check_disk(config, tmp_path / "new" / "run")
    for part in ("3 checkpoints of", "keep_last=2", "MiB free", "choose another output_dir", str(tmp_path)):
        assert part in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_milestones_can_be_moved_away_and_are_only_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(tmp_path, keep_every_tokens=512 * 4)
    need = disk_need(config, tmp_path)
    assert need.milestones == 10
    with_free(monkeypatch, need.bytes)
    (warning,) = check_disk(config, tmp_path)
    assert "keep_every_tokens" in warning and "\n" not in warning
    with_free(monkeypatch, need.bytes_with_milestones)
    assert check_disk(config, tmp_path) == []


def test_a_finished_run_needs_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints" / "step_00000040").mkdir(parents=True)
    with_free(monkeypatch, disk.OTHER_BYTES)
    assert check_disk(tiny(tmp_path), tmp_path) == []
