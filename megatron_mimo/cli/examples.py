"""Copy the recipes and launch scripts of the project: megatron-mimo examples FOLDER

FOLDER/examples/ gets what the checkout's examples/ holds: mimo_7b/ (the report's numbers) and nano/ (two CPU cores).
"""

import argparse
import shutil
from pathlib import Path

import megatron_mimo
from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

IN_PACKAGE = Path(megatron_mimo.__file__).parent / "examples"
IN_CHECKOUT = Path(megatron_mimo.__file__).parents[1] / "examples"


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("folder", type=Path, help="where examples/ is put; files of yours are never overwritten")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Copy the folder; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: copy(options.folder / "examples"))


def copy(target: Path) -> None:
    """Copy the examples to a folder that does not exist yet, and say what to run; raises UserError."""
    source = IN_PACKAGE if IN_PACKAGE.is_dir() else IN_CHECKOUT
    if target.exists():
        raise UserError(f"{target} exists and may hold files of yours: name another folder")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise UserError(f"cannot copy {source} to {target}: {error}") from error
    for path in sorted(target.rglob("*")):
        if path.is_file():
            print(f"  {path}")
    print(f"\nFor example, from {target.parent}: megatron-mimo data examples/nano/data.yaml")
