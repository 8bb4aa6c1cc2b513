"""Write the recipes of a size into a new folder: data, pre-training, MTP layers, fine-tuning, RL, evaluation.

    megatron-mimo init nano my-run      two CPU cores, minutes
    megatron-mimo init 150m my-run      8 GPUs, less than a day; also 400m and 1b
    megatron-mimo init 7b my-run        the report's numbers

All sizes have the same files; they differ in numbers only. README.md in the folder lists the commands.
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.recipes.write import SIZES, write_recipes


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("size", choices=SIZES)
    found.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist yet, or is empty")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the folder; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options.size, options.folder))


def run(size: str, folder: Path) -> None:
    """Write and say what to do next; raises UserError."""
    for path in write_recipes(size, folder):
        print(f"  {path}")
    print(f"\nNow: cd {folder}; README.md lists the commands, the first ones make the data")
