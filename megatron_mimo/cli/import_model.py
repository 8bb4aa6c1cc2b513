"""Hugging Face folder -> a checkpoint of weights to fine-tune or to train on, one tensor at a time, on the CPU.

    megatron-mimo import MODEL RUN/checkpoints/step_00000000
    megatron-mimo import MODEL RUN                              the same: step 0 of the run RUN

Then, for example: megatron-mimo sft CONFIG.yaml start.checkpoint=RUN/checkpoints
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code
from megatron_mimo.cli.direction import parser_of_direction
from megatron_mimo.cli.export import INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The options of `convert import`, its two folders by their places."""
    return parser_of_direction("import", __doc__, ("model", "checkpoint"))


def main(arguments: list[str] | None = None) -> int:
    """Import; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options), INTERRUPTED)


def run(options: argparse.Namespace) -> None:
    """Convert into the checkpoint, or into step 0 of a run; raises UserError."""
    options.hf_path, options.megatron_path = options.model, step_of(options.checkpoint)
    options.run(options)


def step_of(path: Path) -> Path:
    """The step folder that a run, its folder of checkpoints or a step folder means."""
    if path.name.startswith("step_"):
        return path
    return (path if path.name == "checkpoints" else path / "checkpoints") / "step_00000000"
