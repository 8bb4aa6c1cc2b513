"""Synthetic reasoning data: megatron-mimo synthesize examples/nano/synthesize.yaml [key=value ...]"""

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import load
from megatron_mimo.data.synthesize.pipeline import SynthesisConfig, synthesize


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    options = settings_parser(__doc__).parse_intermixed_args(arguments)
    return exit_code(lambda: run(load(SynthesisConfig, options.settings)))


def run(config: SynthesisConfig) -> None:
    """Synthesize and print the counts; raises UserError."""
    for name, number in sorted(synthesize(config).items()):
        print(f"{name:<40} {number:>12,}")
