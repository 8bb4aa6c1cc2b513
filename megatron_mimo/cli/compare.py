"""`megatron-mimo compare`: two evaluations, question by question."""

import argparse
import sys

from megatron_mimo.cli import evaluate
from megatron_mimo.cli.command import exit_code


def parser() -> argparse.ArgumentParser:
    """The options."""
    return evaluate.comparison_parser()


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison and write its page; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: evaluate.compare(words))
