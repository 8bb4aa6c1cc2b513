"""A checkpoint of a run -> Hugging Face folder, one tensor at a time, on the CPU.

    megatron-mimo export RUN FOLDER                             the newest undamaged checkpoint of a run
    megatron-mimo export RUN/checkpoints/step_00001000 FOLDER   this one

Low-rank updates as a PEFT adapter, and a round trip: megatron-mimo convert.
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code
from megatron_mimo.cli.direction import parser_of_direction

INTERRUPTED = "interrupted; the same command continues with the files that are finished"


def parser() -> argparse.ArgumentParser:
    """The options of `convert export`, its two folders by their places."""
    return parser_of_direction("export", __doc__, ("checkpoint", "folder"))


def main(arguments: list[str] | None = None) -> int:
    """Export; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options), INTERRUPTED)


def run(options: argparse.Namespace) -> None:
    """Find the checkpoint and convert it; raises UserError."""
    options.megatron_path, options.hf_path = checkpoint_of(options.checkpoint), options.folder
    options.run(options)


def checkpoint_of(path: Path) -> Path:
    """A step folder itself, or the newest undamaged one of a run; raises UserError where there is none."""
    from megatron_mimo.config import UserError
    from megatron_mimo.training.checkpoint_files import complete_checkpoints
    from megatron_mimo.training.checkpoint_list import checkpoints_of

    if path.name.startswith("step_"):
        return path
    found = complete_checkpoints(checkpoints_of(path), hash_files=False)
    if not found:
        raise UserError(f"{path} has no undamaged checkpoint: megatron-mimo checkpoints {path} --verify")
    print(f"checkpoint: {found[-1]}")
    return found[-1]
