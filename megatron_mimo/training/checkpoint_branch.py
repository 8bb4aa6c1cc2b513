"""A new run folder that continues from a checkpoint of another run, with settings of its own. No torch."""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config import UserError
from megatron_mimo.config.load import read_yaml
from megatron_mimo.platform.files import write_text
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, damage, step_folder, step_folders
from megatron_mimo.training.checkpoint_record import CheckpointRecord, read_record
from megatron_mimo.training.metrics import MetricsLog

HALF_MADE = ".branching"


def branch(run: Path, step: int, output_dir: Path) -> str:
    """Make `output_dir` of the checkpoint after `step` steps of the run in `run`; returns the command that continues.

    The checkpoint's files are linked into it where both lie on one file system (neither run changes or follows them),
    copied otherwise. Metrics beyond `step` are left out. Raises UserError, with nothing made, where the checkpoint is
    damaged or absent, or where `output_dir` exists.
    """
    source = run / CHECKPOINTS / step_folder(step)
    record = _sound(source)
    if output_dir.exists():
        raise UserError(f"{output_dir} exists: name a folder that does not")
    name = "sft.yaml" if (run / "sft.yaml").is_file() else "config.yaml"
    settings = _settings(run / name, record, output_dir)
    command = _command(record, name, output_dir)
    half_made = output_dir.with_name(output_dir.name + HALF_MADE)
    shutil.rmtree(half_made, ignore_errors=True)
    try:
        _fill(half_made, run, source, {name: settings}, command)
        os.replace(half_made, output_dir)
    except OSError as error:
        shutil.rmtree(half_made, ignore_errors=True)
        raise UserError(f"cannot make the run folder {output_dir}: {error}") from error
    return command


def _settings(path: Path, record: CheckpointRecord, output_dir: Path) -> dict[str, Any]:
    """Those of the run, for the new folder; what became of stages after the checkpoint is forgotten."""
    settings: dict[str, Any] = read_yaml(path) | {"output_dir": str(output_dir)}
    for stage in settings.get("stages", [])[record.progress.stage :]:
        stage.pop("ended_after_tokens", None)
    return settings


def _sound(source: Path) -> CheckpointRecord:
    if not source.is_dir():
        steps = ", ".join(path.name.removeprefix("step_").lstrip("0") or "0" for path in step_folders(source.parent))
        raise UserError(f"there is no {source}; there are checkpoints of the steps {steps or '(none)'}")
    problem = damage(source, hash_files=True)
    if problem is not None:
        raise UserError(f"{source} is damaged: {problem}; take another step")
    record = read_record(source)
    if record.weights_only:
        raise UserError(f"{source} holds weights alone: name it as start.checkpoint of a new run")
    return record


def _fill(folder: Path, run: Path, source: Path, configurations: dict[str, dict[str, Any]], command: str) -> None:
    checkpoint = folder / CHECKPOINTS / source.name
    checkpoint.mkdir(parents=True)
    for file in source.iterdir():
        link_or_copy(file, checkpoint / file.name)
    for name, settings in configurations.items():
        write_text(folder / name, yaml.safe_dump(settings, sort_keys=False))
    if (run / "mixtures").is_dir():
        shutil.copytree(run / "mixtures", folder / "mixtures")
    if (run / "metrics.jsonl").is_file():
        shutil.copyfile(run / "metrics.jsonl", folder / "metrics.jsonl")
        MetricsLog(folder / "metrics.jsonl").truncate_after(int(source.name.removeprefix("step_")))
    write_text(folder / "command.txt", command + "\n")


def link_or_copy(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
    """The same file under another name, or a copy where the file system has none of that."""
    try:
        link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _command(record: CheckpointRecord, name: str, output_dir: Path) -> str:
    program = "sft" if name == "sft.yaml" else "pretrain" if record.driver is None else "rl"
    ranks = f" --nproc {record.world_size}" if record.world_size > 1 and program != "rl" else ""
    return f"megatron-mimo {program} {shlex.quote(str(output_dir / name))}{ranks}"
