"""Mixtures of the stages: measure the sources, solve for weights, check what a run consumed.

    megatron-mimo mixture measure SHARDS [BYTES_PER_TOKEN]     tokens of each domain and quality in tagged shards
    megatron-mimo mixture solve SPEC.yaml [key=value ...]      tag counts, targets, token budgets -> mixture files
    megatron-mimo mixture check RUN_DIR [--tolerance 0.001]    what a run consumed, against its mixture files

Each has its own --help.
"""

import importlib
import sys

PROGRAMS = {
    "measure": "megatron_mimo.data.balance.buckets",
    "solve": "megatron_mimo.cli.solve_mixture",
    "check": "megatron_mimo.cli.check_mixture",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in PROGRAMS:
        asked = words[:1] in (["-h"], ["--help"])
        wrong = f"megatron-mimo mixture has no {words[0]!r}; choose measure, solve or check\n\n" if words else ""
        print(__doc__ if asked else f"{wrong}{__doc__}", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    sys.argv = [f"megatron-mimo mixture {words[0]}", *words[1:]]
    return importlib.import_module(PROGRAMS[words[0]]).main(words[1:])
