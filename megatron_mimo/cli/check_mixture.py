"""Compare what training consumed with its mixture files: python tools/check_mixture.py RUN_DIR [--tolerance 0.001]

Exit code 1 when the share of a source is off by more than the tolerance, and by more than two samples.
"""

import argparse
import sys
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.training.mixture_check import DEFAULT_TOLERANCE, compare, render


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_dir", type=Path, help="output_dir of a pre-training run")
    parser.add_argument("--tolerance", type=float, default=DEFAULT_TOLERANCE, help="share of a stage's tokens")
    options = parser.parse_args(arguments)
    try:
        rows = compare(options.run_dir)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(render(rows, options.tolerance))
    off = sum(row.is_off(options.tolerance) for row in rows)
    print(f"\n{'every source has its share' if not off else f'{off} of {len(rows)} shares are off (!)'}")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
