"""Documents -> tokenizer, `.bin/.idx`, manifest: the second half of `megatron-mimo data`, by itself.

    megatron-mimo tokenize CONFIG.yaml [key=value ...]

CONFIG.yaml lists output_dir, tokenizer and sources (JSON Lines, Parquet, shards, pairs), or is the file of a whole data
job, of which the part `tokenize:` is taken. For pairs that exist already: megatron-mimo import-tokens.
"""

import argparse
import shlex
import sys
import time

from megatron_mimo.cli.command import exit_code, own_program, settings_parser


def parser() -> argparse.ArgumentParser:
    """The options."""
    return settings_parser(__doc__)


def main(arguments: list[str] | None = None) -> int:
    """Tokenize; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    command = shlex.join([*own_program("tokenize"), *(sys.argv[1:] if arguments is None else arguments)])
    return exit_code(lambda: run(options.settings), f"interrupted; to continue:\n  {command}")


def run(settings: list[str]) -> None:
    """Make the data folder of `[FILE, override, ...]`; raises UserError."""
    from megatron_mimo.config import UserError
    from megatron_mimo.data.job import load_job, tokenize

    start, (file, *overrides) = time.monotonic(), settings
    job = load_job(file, overrides)
    if job.tokenize is None:
        raise UserError(f"{file} has no part `tokenize:`; megatron-mimo data runs its `pipeline:`")
    tokenize(job, lambda line: print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True))
    print(f"data folder ready: {job.tokenize.output_dir}")
