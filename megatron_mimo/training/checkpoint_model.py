"""The model's settings from a checkpoint, for `model: {from: CHECKPOINT}`. No torch."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, step_folders
from megatron_mimo.training.checkpoint_record import RUN_FILE, CheckpointRecord, read_record


def model_of(path: str, output_dir: str | None) -> dict[str, Any]:
    """Settings of the model in a `step_*` folder, a folder of them, or a run's folder.

    Where these are gone, the run's own checkpoints in `output_dir` are asked: it resumes without what it started from.
    Raises UserError where there is no checkpoint.
    """
    own = [] if output_dir is None else [Path(output_dir) / CHECKPOINTS]
    for folder in (Path(path), Path(path) / CHECKPOINTS, *own):
        record = _newest(folder)
        if record is not None:
            return asdict(record.model)
    raise UserError(f"config error: model.from = {path!r}: there is no checkpoint; name a run's checkpoints folder")


def _newest(folder: Path) -> CheckpointRecord | None:
    """The record of a step folder, or of the newest one in a folder; its data is not examined."""
    if (folder / RUN_FILE).is_file():
        return read_record(folder)
    found = step_folders(folder)
    return read_record(found[-1]) if found else None
