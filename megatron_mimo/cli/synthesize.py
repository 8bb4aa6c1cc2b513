"""Synthetic reasoning data: megatron-mimo synthesize examples/nano/synthesize.yaml [key=value ...]"""

import argparse
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import load

if TYPE_CHECKING:
    from megatron_mimo.data.synthesize.pipeline import SynthesisConfig


def parser() -> argparse.ArgumentParser:
    """The options."""
    return settings_parser(__doc__)


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    from megatron_mimo.data.synthesize.pipeline import SynthesisConfig

    return exit_code(lambda: run(load(SynthesisConfig, options.settings)))


def run(config: "SynthesisConfig") -> None:
    """Synthesize and print the counts; raises UserError."""
    from megatron_mimo.data.synthesize.pipeline import synthesize

    for name, number in sorted(synthesize(config).items()):
        print(f"{name:<40} {number:>12,}")
