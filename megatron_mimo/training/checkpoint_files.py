"""The files of a checkpoint folder: names, hashes, completeness, rotation. No torch."""

import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import file_sha256

STEP_FOLDER = re.compile(r"step_(\d{8})")
RANK_FILE = re.compile(r"__(\d+)_\d+\.distcp")


def step_folder(step: int) -> str:
    return f"step_{step:08d}"


def read_run_json(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint; raises UserError where the folder is no complete checkpoint."""
    try:
        return json.loads((path / "run.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a complete checkpoint (run.json: {error}); name a step_* folder that has one"
        ) from error


def file_hashes(folder: Path, rank: int, world_size: int) -> dict[str, dict[str, Any]]:
    """Size and sha256 of the files that fall to `rank`: those it wrote; rank 0 also takes what belongs to nobody."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        match = RANK_FILE.fullmatch(path.name)
        owner = int(match.group(1)) % world_size if match else 0
        if owner == rank:
            hashes[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return hashes


def complete_checkpoints(folder: Path, hash_files: bool) -> list[Path]:
    """Undamaged checkpoints, oldest first; looks no further than the newest good one for damage."""
    candidates = _step_folders(folder)
    while candidates:
        problem = _damage(candidates[-1], hash_files)
        if problem is None:
            return candidates
        print(f"passing over the damaged checkpoint {candidates[-1]}: {problem}", file=sys.stderr, flush=True)
        candidates.pop()
    return []


def resumable_run_json(folder: Path) -> dict[str, Any] | None:
    """The facts of the newest checkpoint that has an optimizer, its files unexamined; None where there is none."""
    for path in reversed(_step_folders(folder)):
        with suppress(UserError):
            run = read_run_json(path)
            if not run.get("weights_only", False):
                return run
    return None


def remove_superseded(folder: Path, keep_last: int, keep_every_tokens: int | None) -> None:
    """Delete all but the newest `keep_last` checkpoints and the first after each multiple of `keep_every_tokens`."""
    folders = _step_folders(folder)
    kept_for_good = _milestones(folders, keep_every_tokens) if keep_every_tokens else set()
    for path in folders[:-keep_last]:
        if path not in kept_for_good:
            # A half-removed folder must not look complete.
            (path / "run.json").unlink()
            shutil.rmtree(path)


def _milestones(folders: list[Path], keep_every_tokens: int) -> set[Path]:
    kept, reached = set(), 0
    for path in folders:
        multiple = read_run_json(path)["consumed_tokens"] // keep_every_tokens
        if multiple > reached:
            kept.add(path)
            reached = multiple
    return kept


def _step_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if STEP_FOLDER.fullmatch(path.name) and (path / "run.json").exists()
    )


def _damage(path: Path, hash_files: bool) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        listed = json.loads((path / "checksums.json").read_text())
        for name, expected in listed.items():
            size = (path / name).stat().st_size
            if size != expected["bytes"]:
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if hash_files and file_sha256(path / name) != expected["sha256"]:
                return f"{name} does not match its checksum"
    except (OSError, json.JSONDecodeError) as error:
        return str(error)
    return None
