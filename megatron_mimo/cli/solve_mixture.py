"""Weights and epochs by source for each stage: megatron-mimo mixture solve SPEC.yaml [key=value ...]

SPEC.yaml holds a `BalanceSpec` (examples/mimo_7b/balance.yaml is one). Writes a mixture file for each stage and
mixture.json; targets that cannot be met are explained, and nothing is written.
"""

import argparse
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import load

if TYPE_CHECKING:
    from megatron_mimo.data.balance.spec import BalanceSpec


def parser() -> argparse.ArgumentParser:
    """The options."""
    return settings_parser(__doc__)


def main(arguments: list[str] | None = None) -> int:
    """Run the solver; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    from megatron_mimo.data.balance.spec import BalanceSpec

    return exit_code(lambda: run(load(BalanceSpec, options.settings)))


def run(spec: "BalanceSpec") -> None:
    """Solve, write and print; raises UserError."""
    from megatron_mimo.data.balance.write import render, solve_mixture

    print(render(solve_mixture(spec)))
    print(f"\nwritten to {spec.output_dir}: {', '.join(f'{stage.name}.yaml' for stage in spec.stages)}, mixture.json")
