"""Synthetic reasoning data: python tools/synthesize.py examples/nano/synthesize.yaml [key=value ...]"""

import sys

from megatron_mimo.config import UserError, load
from megatron_mimo.data.synthesize.pipeline import SynthesisConfig, synthesize


def main(arguments: list[str]) -> int:
    """Run the job; returns the exit code."""
    if arguments in ([], ["-h"], ["--help"]):
        print(__doc__)
        return 0 if arguments else 2
    try:
        counts = synthesize(load(SynthesisConfig, arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for name, number in sorted(counts.items()):
        print(f"{name:<40} {number:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
