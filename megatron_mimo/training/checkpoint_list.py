"""A run's checkpoints as a person sees them: listed, examined, and those removed that nobody needs. No torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import CheckpointConfig, UserError
from megatron_mimo.config.load import from_tree, read_yaml
from megatron_mimo.platform.formats import format_bytes, format_count
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, damage, milestones, remove, step_folders
from megatron_mimo.training.checkpoint_record import CheckpointRecord, NewerRecord, read_record


@dataclass(frozen=True)
class Entry:
    """A `step_*` folder and what is known of it."""

    path: Path
    record: CheckpointRecord | None
    """None where it cannot be read."""
    size: int
    """Bytes of its files."""
    problem: str | None
    """What is wrong with it."""
    is_verified: bool
    """Whether every byte was read, or the sizes alone were compared."""
    is_newer: bool = False
    """A later version of this program wrote it: neither good nor bad is known of it."""

    @property
    def is_link(self) -> bool:
        return self.path.is_symlink()

    @property
    def resumes(self) -> bool:
        """Whether a run could continue from it, and nothing is known to be wrong with it."""
        return self.problem is None and self.record is not None and not self.record.weights_only

    @property
    def state(self) -> str:
        """In words."""
        if self.problem is not None:
            return self.problem if self.is_newer else f"DAMAGED: {self.problem}"
        return "verified" if self.is_verified else "complete, not read"


def checkpoints_of(run: Path) -> Path:
    """The folder of checkpoints of a run's folder, or of what is one itself; raises UserError where there is none."""
    folder = run / CHECKPOINTS if (run / CHECKPOINTS).is_dir() else run
    if not step_folders(folder):
        raise UserError(f"{run} has no checkpoints: name the output_dir of a run, or a folder of step_* folders")
    return folder


def examine(folder: Path, hash_files: bool) -> Iterator[Entry]:
    """Every `step_*` folder, oldest first; with `hash_files` every byte of it is read."""
    for path in step_folders(folder):
        problem, record, is_newer = None, None, False
        try:
            problem = damage(path, hash_files)
            record = read_record(path)
        except UserError as error:
            problem, is_newer = problem or str(error), isinstance(error, NewerRecord)
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        yield Entry(path, record, size, problem, hash_files, is_newer)


def settings_of(folder: Path) -> CheckpointConfig:
    """How the run of this folder of checkpoints rotates them; the defaults where its config.yaml is not there."""
    path = folder.parent / "config.yaml"
    if not path.is_file():
        return CheckpointConfig()
    return from_tree(CheckpointConfig, read_yaml(path).get("checkpoint") or {}, str(path))


def protected(entries: list[Entry], keep_last: int, keep_every_tokens: int | None) -> dict[Path, str]:
    """Why a checkpoint stays, by its path; what is not named here may go.

    Damaged ones do not count, and what is newer than the oldest of the newest `keep_last` sound ones stays whatever it
    is. Links, and weights alone, from which a run may have started, belong to somebody else.
    """
    sound = [entry.path for entry in entries if entry.resumes and not entry.is_link][-keep_last:]
    reasons = dict.fromkeys(sound, f"one of the newest {len(sound)}" if len(sound) > 1 else "the newest")
    if len(sound) == 1 and sum(entry.resumes for entry in entries) == 1:
        reasons[sound[0]] = "the only sound one"
    if keep_every_tokens is not None:
        for path in milestones([entry.path for entry in entries if entry.resumes], keep_every_tokens):
            reasons.setdefault(path, f"first after a multiple of {format_count(keep_every_tokens)} tokens")
    for entry in entries:
        if entry.is_link:
            reasons[entry.path] = f"a link to {entry.path.readlink()}"
        elif entry.is_newer:
            reasons[entry.path] = "of a later version"
        elif entry.record is not None and entry.record.weights_only:
            reasons.setdefault(entry.path, "weights to start from")
        elif not sound or entry.path > sound[0]:
            reasons.setdefault(entry.path, "not older than a sound one")
    return reasons


def prune(
    folder: Path, keep_last: int, keep_every_tokens: int | None, dry_run: bool, say: Callable[[str], object] = print
) -> int:
    """Read every checkpoint, then remove those that are not `protected`; returns their number.

    Raises UserError, with nothing removed, where none is sound.
    """
    entries = list(examine(folder, hash_files=True))
    if not any(entry.resumes for entry in entries):
        raise UserError(f"none of the {len(entries)} checkpoints in {folder} is sound: nothing was removed")
    stays = protected(entries, keep_last, keep_every_tokens)
    leaving = [entry for entry in entries if entry.path not in stays]
    for entry in leaving:
        if not dry_run:
            remove(entry.path)
        say(f"{'would remove' if dry_run else 'removed'} {entry.path} ({format_bytes(entry.size)}, {entry.state})")
    for entry in entries:
        if entry.path in stays:
            say(f"{'would keep' if dry_run else 'kept'} {entry.path}: {stays[entry.path]}, {entry.state}")
    return len(leaving)


def table(entries: list[Entry], stays: dict[Path, str]) -> str:
    """A line each."""
    lines = [f"{'step':>10} {'tokens':>8} {'size':>10}  {'kept':<42} state"]
    for entry in entries:
        tokens = format_count(entry.record.progress.consumed_tokens) if entry.record else "?"
        step = int(entry.path.name.removeprefix("step_"))
        kept = stays.get(entry.path, "goes with a later save")
        lines.append(f"{step:>10,} {tokens:>8} {format_bytes(entry.size):>10}  {kept:<42} {entry.state}")
    return "\n".join(lines)
