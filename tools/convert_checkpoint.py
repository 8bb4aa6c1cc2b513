"""Convert checkpoints: `convert_checkpoint.py export --megatron-path RUN/checkpoints/step_X --hf-path OUT`."""

import argparse
import sys
import time
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.convert.export import export_checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Run one conversion; returns the exit code (2 for a problem the user can mend)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Convert checkpoints between Megatron and Hugging Face.")
    commands = parser.add_subparsers(required=True)
    export = commands.add_parser("export", help="Megatron torch_dist checkpoint -> Hugging Face folder")
    export.add_argument("--megatron-path", type=Path, required=True, help="RUN/checkpoints/step_... of a finished save")
    export.add_argument("--hf-path", type=Path, required=True, help="folder to write; must not exist yet")
    export.add_argument("--tokenizer", type=Path, help="tokenizer folder (default: the training configuration's)")
    export.set_defaults(run=_export)
    return parser


def _export(options: argparse.Namespace) -> None:
    started = time.monotonic()
    count = 0

    def progress(written: int, name: str) -> None:
        nonlocal count
        count = written
        if sys.stderr.isatty():
            print(f"\r{written} tensors, {name}\033[K", end="", file=sys.stderr)

    notes = export_checkpoint(options.megatron_path, options.hf_path, options.tokenizer, progress=progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"wrote {count} tensors to {options.hf_path} in {time.monotonic() - started:.1f} s")
    for note in notes:
        print(f"note: {note}")


if __name__ == "__main__":
    sys.exit(main())
