"""Damaged checkpoints are passed over and never counted; rotation removes what is superseded and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import file_sha256
from megatron_mimo.training import checkpoint_files
from megatron_mimo.training.checkpoint_files import (
    Rotation,
    complete_checkpoints,
    damage,
    file_entry,
    file_hashes,
    newest_checkpoint,
    note_entries,
    put_in_place,
    step_folder,
)
from megatron_mimo.training.checkpoint_record import NewerRecord
from support.records import TOKENS_A_STEP
from support.records import write_checkpoint as make


def flip(path: Path) -> None:
    """Change one byte of the weights."""
    file = path / "__0_0.distcp"
    file.write_bytes(b"W" + file.read_bytes()[1:])


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step_")) for path in folder.iterdir())


def edited(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    (path / name).write_text(json.dumps(change(json.loads((path / name).read_text()))))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a byte of the weights": flip,
    "weights cut": lambda path: (path / "__0_0.distcp").write_bytes(b"weights"),
    "weights gone": lambda path: (path / "__0_0.distcp").unlink(),
    "metadata gone": lambda path: (path / ".metadata").unlink(),
    "position changed": lambda path: edited(path, "run.json", lambda run: run | {"consumed_tokens": 7}),
    "run.json cut": lambda path: (path / "run.json").write_text((path / "run.json").read_text()[:20]),
    "run.json gone": lambda path: (path / "run.json").unlink(),
    "run.json a list": lambda path: (path / "run.json").write_text("[]"),
    "no checksums": lambda path: (path / "checksums.json").unlink(),
    "checksums cut": lambda path: (path / "checksums.json").write_text("{"),
    "checksums a list": lambda path: (path / "checksums.json").write_text("[]"),
    "checksums empty": lambda path: (path / "checksums.json").write_text("{}"),
    "checksums of binary": lambda path: (path / "checksums.json").write_bytes(b"\xff\x00"),
    "checksums with other keys": lambda path: edited(
        path, "checksums.json", lambda listed: {n: {"bytfs": e["bytes"], "sha256": ""} for n, e in listed.items()}
    ),
    "an entry that is a number": lambda path: edited(path, "checksums.json", lambda e: e | {".metadata": 6}),
    "weights not listed": lambda path: edited(
        path, "checksums.json", lambda listed: {n: e for n, e in listed.items() if n != "__0_0.distcp"}
    ),
    "a name that leads elsewhere": lambda path: edited(
        path, "checksums.json", lambda listed: listed | {"../x": {"bytes": 0, "sha256": ""}}
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = make(tmp_path, 4), make(tmp_path, 8)
    DAMAGES[kind](bad)
    assert newest_checkpoint(tmp_path, hash_files=True) == good
    (line,) = capsys.readouterr().err.splitlines()
    assert f"passing over the damaged checkpoint {bad}: " in line


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_old_checkpoint_blocks_nothing(kind: str, tmp_path: Path) -> None:
    bad, good = make(tmp_path, 4), make(tmp_path, 8)
    DAMAGES[kind](bad)
    assert newest_checkpoint(tmp_path, hash_files=True) == good
    rotation = Rotation(tmp_path, keep_last=1, keep_every_tokens=300, hash_files=True)
    rotation.is_sound(good)
    rotation.after_save(make(tmp_path, 12))
    assert 12 in steps(tmp_path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_where_all_are_damaged_the_run_stops(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in (4, 8, 12):
        DAMAGES[kind](make(folder, step))
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(UserError, match=rf"none of the 3 checkpoints(.|\n)*mv {folder} "):
        newest_checkpoint(folder, hash_files=True)
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_nothing_there_is_a_start(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent", hash_files=True) is None
    make(tmp_path, 0, weights_only=True)
    assert newest_checkpoint(tmp_path, hash_files=True) is None


def test_a_checkpoint_of_an_earlier_version_is_sound(tmp_path: Path) -> None:
    """Its list lacks run.json."""
    path = make(tmp_path, 4)
    edited(path, "checksums.json", lambda listed: {n: e for n, e in listed.items() if n != "run.json"})
    assert damage(path, hash_files=True) is None


def test_a_checkpoint_of_a_later_version_is_not_passed_over(tmp_path: Path) -> None:
    """To go on from an older one would take back what the later program has trained."""
    make(tmp_path, 4)
    newer = make(tmp_path, 8)
    edited(newer, "run.json", lambda run: run | {"version": 99})
    (newer / "checksums.json").unlink()
    (newer / "checksums.json").write_text(json.dumps(file_hashes(newer, 0, 1)))
    for find in (newest_checkpoint, complete_checkpoints):
        with pytest.raises(NewerRecord, match=r"version 99, this program reads up to 3: .* choose a new output_dir"):
            find(tmp_path, hash_files=True)


def test_what_the_writer_has_hashed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, 4)
    (path / "__1_0.distcp").write_bytes(b"of rank 1")
    (path / "checksums.json").unlink()
    plain = [file_hashes(path, rank, 2) for rank in range(2)]
    for rank in range(2):
        note_entries(path, rank, {file.name: file_entry(file) for file in path.glob(f"__{rank}_*.distcp")})
    read: list[str] = []
    monkeypatch.setattr(checkpoint_files, "file_sha256", lambda file: read.append(file.name) or file_sha256(file))
    assert [file_hashes(path, rank, 2) for rank in range(2)] == plain
    assert sorted(read) == [".metadata", "run.json"]
    assert not list(path.glob("*hashes*")), "its notes are no part of the checkpoint"


def test_sizes_alone_do_not_read_the_weights_but_do_read_the_record(tmp_path: Path) -> None:
    path = make(tmp_path, 4)
    flip(path)
    assert damage(path, hash_files=False) is None
    edited(path, "run.json", lambda run: run | {"step": 5})
    assert "run.json" in str(damage(path, hash_files=False))


def test_damaged_checkpoints_beyond_do_not_push_out_good_ones(tmp_path: Path) -> None:
    """D01: 4 is good, 8 and 12 are not; the run goes on from 4 and saves 5, 6, 7."""
    for step in (4, 8, 12):
        make(tmp_path, step)
    flip(tmp_path / step_folder(8))
    flip(tmp_path / step_folder(12))
    start = newest_checkpoint(tmp_path, hash_files=True)
    assert start is not None
    rotation = Rotation(tmp_path, keep_last=2, keep_every_tokens=None, hash_files=True)
    rotation.is_sound(start)
    seen = []
    for step in (5, 6, 7):
        rotation.after_save(make(tmp_path, step))
        seen.append(steps(tmp_path))
    assert seen == [[4, 5, 8, 12], [5, 6, 8, 12], [6, 7, 8, 12]]


def test_an_unseen_damage_between_good_ones_is_not_counted(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        make(tmp_path, step)
    flip(tmp_path / step_folder(8))
    rotation = Rotation(tmp_path, keep_last=3, keep_every_tokens=None, hash_files=True)
    rotation.is_sound(tmp_path / step_folder(12))
    rotation.after_save(make(tmp_path, 16))
    assert steps(tmp_path) == [4, 8, 12, 16], "12 and 16 are sound, 8 is not known to be"
    rotation.after_save(make(tmp_path, 20))
    assert steps(tmp_path) == [12, 16, 20]


def test_runs_that_are_killed_after_each_save_do_not_pile_up(tmp_path: Path) -> None:
    keep_last = 3
    for step in range(1, 30):
        rotation = Rotation(tmp_path, keep_last, None, hash_files=True)
        newest = newest_checkpoint(tmp_path, hash_files=True)
        if newest is not None:
            rotation.is_sound(newest)
        rotation.after_save(make(tmp_path, step))
        assert len(steps(tmp_path)) <= 2 * keep_last + 1
        assert steps(tmp_path)[-min(step, keep_last) :] == list(range(max(1, step - keep_last + 1), step + 1))


def test_what_killed_saves_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """Also that of another step, which no later save would write over."""
    for name in ("step_00000099.tmp", "step_00000002.removing", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    Rotation(tmp_path, keep_last=2, keep_every_tokens=None, hash_files=True).after_save(make(tmp_path, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step_00000004"]


def test_a_file_in_the_place_of_a_checkpoint_gives_way(tmp_path: Path) -> None:
    (tmp_path / step_folder(4)).write_text("x")
    finished = make(tmp_path / "finished", 4)
    put_in_place(finished, tmp_path / step_folder(4))
    assert damage(tmp_path / step_folder(4), hash_files=True) is None


def test_a_file_in_the_place_of_the_folder_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("x")
    with pytest.raises(UserError, match="is no folder"):
        newest_checkpoint(tmp_path / "checkpoints", hash_files=True)


def test_milestones_stay(tmp_path: Path) -> None:
    rotation = Rotation(tmp_path, 1, 3 * TOKENS_A_STEP, hash_files=True)
    for step in range(1, 9):
        rotation.after_save(make(tmp_path, step))
    assert steps(tmp_path) == [3, 6, 8]


@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_link_is_never_followed(keep_last: int, tmp_path: Path) -> None:
    """D02: superseded, and in the place of a new checkpoint, the link alone goes."""
    other = make(tmp_path / "other", 12)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / step_folder(12)).symlink_to(other)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    rotation = Rotation(folder, keep_last, None, hash_files=True)
    rotation.is_sound(folder / step_folder(12))
    for step in (13, 14, 15):
        rotation.after_save(make(folder, step))
    assert steps(folder) == [13, 14, 15][-keep_last:]
    (folder / step_folder(20)).symlink_to(other)
    unfinished = make(tmp_path / "new", 20).rename(folder / (step_folder(20) + ".tmp"))
    put_in_place(unfinished, folder / step_folder(20))
    assert damage(folder / step_folder(20), hash_files=True) is None
    assert not (folder / step_folder(20)).is_symlink()
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_a_half_removed_checkpoint_never_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.rmtree

    def killed(path: Path, *given: Any, **named: Any) -> None:
        if named.get("ignore_errors"):
            real(path, *given, **named)
            return
        (path / "__0_0.distcp").unlink()
        raise KeyboardInterrupt

    rotation = Rotation(tmp_path, 1, None, hash_files=True)
    make(tmp_path, 1)
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        rotation.after_save(make(tmp_path, 2))
    assert complete_checkpoints(tmp_path, hash_files=True) == [tmp_path / step_folder(2)]
    monkeypatch.setattr(shutil, "rmtree", real)
    rotation.after_save(make(tmp_path, 3))
    assert steps(tmp_path) == [3]
