"""Compare what training consumed with its mixture files: megatron-mimo mixture check RUN_DIR [--tolerance 0.001]

Exit code 1 when the share of a source is off by more than the tolerance, and by more than two samples.
"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of

DEFAULT_TOLERANCE = 0.001


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("run_dir", type=Path, help="output_dir of a pre-training run")
    found.add_argument("--tolerance", type=float, default=DEFAULT_TOLERANCE, help="share of a stage's tokens")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options.run_dir, options.tolerance))


def run(run_dir: Path, tolerance: float) -> int:
    """Print the table; 1 where a share is off. Raises UserError."""
    from megatron_mimo.training.mixture_check import compare, render

    rows = compare(run_dir)
    print(render(rows, tolerance))
    off = sum(row.is_off(tolerance) for row in rows)
    print(f"\n{'every source has its share' if not off else f'{off} of {len(rows)} shares are off (!)'}")
    return 1 if off else 0
