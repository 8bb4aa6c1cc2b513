"""Push an exported model: megatron-mimo push FOLDER OWNER/NAME [--hub modelscope] [--private] [--dry-run]

Log in first with the hub's own command (`hf auth login`, `ms login`).
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.convert.hub import ADDRESSES


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("repo_id", metavar="OWNER/NAME")
    parser.add_argument("--hub", choices=ADDRESSES, default="huggingface")
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--message", default="Upload model")
    parser.add_argument("--dry-run", action="store_true", help="examine the folder and list what would be pushed")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Push, or list what would be pushed; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.repo_id.count("/") != 1:
        parser().error(f"{options.repo_id!r} is not of the form OWNER/NAME")
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Examine the folder, list its files and push them; raises UserError."""
    from megatron_mimo.convert.hub import files_to_push, push

    files = files_to_push(options.folder)
    print(f"{ADDRESSES[options.hub]}/{options.repo_id}{' (private)' if options.private else ''}:")
    for path in files:
        print(f"  {path.stat().st_size:>14,}  {path.name}")
    if not options.dry_run:
        print(push(options.folder, options.repo_id, options.hub, options.private, options.message))
