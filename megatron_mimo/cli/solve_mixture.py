"""Weights and epochs by source for each stage: python tools/solve_mixture.py SPEC.yaml [key=value ...]

SPEC.yaml holds a `BalanceSpec` (examples/mimo_7b/balance.yaml is one). Writes a mixture file for each stage and
mixture.json; targets that cannot be met are explained, and nothing is written.
"""

import sys

from megatron_mimo.config import UserError, load
from megatron_mimo.data.balance.spec import BalanceSpec
from megatron_mimo.data.balance.write import render, solve_mixture


def main(arguments: list[str]) -> int:
    """Run the solver; returns the exit code."""
    if arguments in ([], ["-h"], ["--help"]):
        print(__doc__)
        return 0 if arguments else 2
    try:
        spec = load(BalanceSpec, arguments)
        print(render(solve_mixture(spec)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\nwritten to {spec.output_dir}: {', '.join(f'{stage.name}.yaml' for stage in spec.stages)}, mixture.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
