"""The files of a checkpoint folder: names, hashes, completeness, rotation. No torch.

A folder `step_N` was given its name once every file in it was written, hashed and listed in `checksums.json`; what does
not agree with that list is damaged. Damaged checkpoints are named and passed over, never trusted and never counted.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import file_sha256, write_json
from megatron_mimo.training.checkpoint_record import RUN_FILE, CheckpointRecord, NewerRecord, read_record

STEP_FOLDER = re.compile(r"step_(\d{8})")
RANK_FILE = re.compile(r"__(\d+)_\d+\.distcp")
CHECKPOINTS = "checkpoints"
"""The folder of a run's folder that holds them."""
CHECKSUMS_FILE = "checksums.json"
EARLY_HASHES = ".hashes_of_rank_{rank}.json"
UNFINISHED, LEAVING = ".tmp", ".removing"
"""Endings of folders that are being written and removed; none of them is a checkpoint."""


def step_folder(step: int) -> str:
    return f"step_{step:08d}"


def file_hashes(folder: Path, rank: int, world_size: int) -> dict[str, dict[str, Any]]:
    """Size and sha256 of the files that fall to `rank`: those it wrote; rank 0 also takes what belongs to nobody.

    Those that `note_entries` has noted are not read again; its notes are removed.
    """
    notes = folder / EARLY_HASHES.format(rank=rank)
    known = json.loads(notes.read_text()) if notes.is_file() else {}
    notes.unlink(missing_ok=True)
    hashes = {}
    for path in sorted(folder.iterdir()):
        if (_writer(path, world_size) or 0) == rank and not path.name.startswith(EARLY_HASHES.split("{")[0]):
            hashes[path.name] = known.get(path.name) or file_entry(path)
    return hashes


def note_entries(folder: Path, rank: int, entries: dict[str, dict[str, Any]]) -> None:
    """Note the entries of data files that `rank` has written, for `file_hashes`, by name."""
    write_json(folder / EARLY_HASHES.format(rank=rank), entries)


def _writer(path: Path, world_size: int) -> int | None:
    """The rank that a data file falls to; None for what belongs to nobody."""
    match = RANK_FILE.fullmatch(path.name)
    return int(match.group(1)) % world_size if match else None


def file_entry(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def complete_checkpoints(folder: Path, hash_files: bool) -> list[Path]:
    """Checkpoints up to the newest undamaged one, oldest first; the older ones are not examined."""
    candidates = step_folders(folder)
    while candidates:
        problem = damage(candidates[-1], hash_files)
        if problem is None:
            return candidates
        print(f"passing over the damaged checkpoint {candidates[-1]}: {problem}", file=sys.stderr, flush=True)
        candidates.pop()
    return []


def resumable_record(folder: Path) -> CheckpointRecord | None:
    """The record of the newest checkpoint that has an optimizer, its files unexamined; None where there is none.

    Raises NewerRecord where a later version of this program wrote it.
    """
    for path in reversed(step_folders(folder)):
        record = _record_or_none(path)
        if record is not None and not record.weights_only:
            return record
    return None


def _record_or_none(path: Path) -> CheckpointRecord | None:
    try:
        return read_record(path)
    except NewerRecord:
        raise
    except UserError:
        return None


def newest_checkpoint(folder: Path, hash_files: bool) -> Path | None:
    """The newest undamaged checkpoint that a run can resume from; None where there is none at all.

    An imported checkpoint has no optimizer: `start` takes it, resuming does not. Raises UserError where all are
    damaged: to begin anew there would write over what may still be saved of them.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder: checkpoints go there; move it away, or choose another output_dir")
    candidates = [path for path in step_folders(folder) if not _is_weights_only(path)]
    for path in reversed(candidates):
        problem = damage(path, hash_files)
        if problem is None:
            return path
        print(f"passing over the damaged checkpoint {path}: {problem}", file=sys.stderr, flush=True)
    if not candidates:
        return None
    raise UserError(
        f"none of the {len(candidates)} checkpoints in {folder} is sound; the lines above say why."
        " Nothing was changed.\n"
        "Bring one back from a copy, or begin anew on purpose: move them away and run the same command again:\n"
        f"    mv {folder} {folder}.damaged"
    )


def _is_weights_only(path: Path) -> bool:
    record = _record_or_none(path)
    return record is not None and record.weights_only


def step_folders(folder: Path) -> list[Path]:
    """Whatever is named as a checkpoint, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if STEP_FOLDER.fullmatch(path.name) and path.is_dir())


def damage(path: Path, hash_files: bool) -> str | None:
    """What is wrong with a checkpoint's files, or None. Raises NewerRecord where a later version wrote it."""
    try:
        listed = json.loads((path / CHECKSUMS_FILE).read_text())
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS_FILE}: {error}"
    if not (isinstance(listed, dict) and all(_is_entry(name, entry) for name, entry in listed.items())):
        return f"{CHECKSUMS_FILE} does not list files with their sizes and checksums"
    # Checkpoints of earlier versions do not list run.json.
    unlisted = {file.name for file in path.iterdir() if _must_be_listed(file.name)} - listed.keys()
    if unlisted or not listed:
        return f"{CHECKSUMS_FILE} does not list {', '.join(sorted(unlisted)) or 'any file'}"
    for name, expected in listed.items():
        problem = _file_damage(path / name, expected, hash_files)
        if problem is not None:
            return problem
    try:
        read_record(path)
    except NewerRecord:
        raise
    except UserError as error:
        return str(error)
    return None


def _is_entry(name: str, entry: Any) -> bool:
    if Path(name).name != name or not isinstance(entry, dict):
        return False
    return isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _must_be_listed(name: str) -> bool:
    return name in (".metadata", "metadata.json", "common.pt") or name.endswith(".distcp")


def _file_damage(path: Path, expected: dict[str, Any], hash_files: bool) -> str | None:
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path.name} has {size} bytes instead of {expected['bytes']}"
        # The run's record is small, and a changed position in it would go unnoticed.
        if (hash_files or path.name == RUN_FILE) and file_sha256(path) != expected["sha256"]:
            return f"{path.name} does not match its checksum"
    except OSError as error:
        return str(error)
    return None


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a finished folder its name; what stands there is a damaged checkpoint of this step, or a link."""
    if final.is_symlink():
        final.unlink()
    elif final.exists():
        remove(final)
    os.replace(temporary, final)


def remove(path: Path) -> None:
    """Remove a checkpoint that never looks complete meanwhile; of a link only the link. A file of that name is none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    leaving = path.with_name(path.name + LEAVING)
    shutil.rmtree(leaving, ignore_errors=True)
    os.replace(path, leaving)
    shutil.rmtree(leaving)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed saves and removals have left; for whoever holds the run's lock, between two saves."""
    for ending in (UNFINISHED, LEAVING):
        for stale in folder.glob(f"step_*{ending}"):
            shutil.rmtree(stale, ignore_errors=True)


class Rotation:
    """Which checkpoints of a folder go once a newer one is complete.

    The newest `keep_last` that are known to be sound stay, and the first after each multiple of `keep_every_tokens`.
    Sound are those that this process wrote or examined: one that bears a damage nobody has seen must not push out a
    good one. What stands beyond the step just saved stays; it belongs to another course of the run. Weights alone stay
    too: somebody imported them to start from.
    """

    def __init__(self, folder: Path, keep_last: int, keep_every_tokens: int | None, hash_files: bool) -> None:
        self.folder, self.keep_last, self.keep_every_tokens = folder, keep_last, keep_every_tokens
        self.hash_files = hash_files
        self._sound: set[Path] = set()
        self._damaged: set[Path] = set()

    def is_sound(self, path: Path) -> None:
        """`path` was written, or examined from end to end."""
        self._sound.add(path)
        self._damaged.discard(path)

    def after_save(self, saved: Path) -> None:
        """Remove what `saved` supersedes."""
        self.is_sound(saved)
        remove_unfinished(self.folder)
        older = [path for path in step_folders(self.folder) if path < saved]
        kept = [path for path in (*older, saved) if path in self._sound][-self.keep_last :]
        if len(kept) < self.keep_last and len(older) >= 2 * self.keep_last:
            kept = self._examine_one(older, kept)
        if len(kept) < self.keep_last:
            return
        for_good = milestones([*older, saved], self.keep_every_tokens) if self.keep_every_tokens else set()
        for path in older:
            if path < kept[0] and path not in for_good and not _is_weights_only(path):
                remove(path)
                self._sound.discard(path)

    def _examine_one(self, older: list[Path], kept: list[Path]) -> list[Path]:
        """Runs that are killed after each save would keep all they write: one more is read from end to end."""
        unknown = [path for path in older if path not in self._sound | self._damaged]
        if unknown:
            problem = damage(unknown[-1], self.hash_files)
            (self._sound if problem is None else self._damaged).add(unknown[-1])
        return sorted([*kept, *(path for path in unknown[-1:] if path in self._sound)])[-self.keep_last :]


def milestones(folders: list[Path], keep_every_tokens: int) -> set[Path]:
    """The first after each multiple, and those whose record cannot be read: they may be one."""
    kept, reached = set(), 0
    for path in folders:
        try:
            multiple = read_record(path).progress.consumed_tokens // keep_every_tokens
        except UserError:
            kept.add(path)
            continue
        if multiple > reached:
            kept.add(path)
            reached = multiple
    return kept
