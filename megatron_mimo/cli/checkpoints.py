"""The checkpoints of a run: list, verify, prune, branch.

    megatron-mimo checkpoints RUN                          list them: step, tokens, size, state, what rotation keeps
    megatron-mimo checkpoints RUN --verify                 the same, every byte read and compared with its checksum
    megatron-mimo checkpoints RUN --prune 2 --keep-every 1e9   keep the newest 2 sound ones, and one each 1e9 tokens
    megatron-mimo checkpoints RUN --branch-from 4000 NEW   a new run folder NEW that continues after step 4000

RUN is the output_dir of a run, or its folder of checkpoints. Pruning reads everything first; damaged checkpoints count
for nothing, links are left alone, and the last sound one stays. Exit code 1 where a listed checkpoint is damaged.
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked for; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.prune is None and (options.keep_every or options.dry_run):
        parser().error("--keep-every and --dry-run go with --prune N")
    return exit_code(lambda: run(options))


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="output_dir of a run, or its folder of checkpoints")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--verify", action="store_true", help="read every byte")
    asked.add_argument("--prune", type=_count, metavar="N", help="remove all but the newest N sound ones")
    asked.add_argument("--branch-from", nargs=2, metavar=("STEP", "NEW"), help="make the run folder NEW of that step")
    parser.add_argument(
        "--keep-every", type=_count, metavar="TOKENS", help="with --prune: one each so many tokens stays"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --prune: say what would go")
    return parser


def run(options: argparse.Namespace) -> int:
    """Raises UserError."""
    from megatron_mimo.platform.run_lock import run_lock
    from megatron_mimo.training.checkpoint_branch import branch
    from megatron_mimo.training.checkpoint_files import CHECKPOINTS
    from megatron_mimo.training.checkpoint_list import checkpoints_of, examine, protected, prune, settings_of, table

    folder = checkpoints_of(options.run)
    if options.prune is not None:
        run_folder = folder.parent if folder.name == CHECKPOINTS else folder
        with run_lock(run_folder):
            prune(folder, options.prune, options.keep_every, options.dry_run)
        return 0
    if options.branch_from is not None:
        step, output_dir = options.branch_from
        if not step.isdecimal():
            raise UserError(f"--branch-from takes a step and a folder: {step!r} is no step")
        command = branch(folder.parent, int(step), Path(output_dir))
        print(
            f"{output_dir} goes on after step {int(step):,}, with settings of its own (key=value) and as many ranks as"
            f" its layout allows:\n    {command}"
        )
        return 0
    entries, settings = list(examine(folder, options.verify)), settings_of(folder)
    print(table(entries, protected(entries, settings.keep_last, settings.keep_every_tokens)))
    return int(any(entry.problem for entry in entries))


def _count(text: str) -> int:
    """A whole number from 1, written in any way."""
    value = float(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(value)
