"""Make data: raw files -> documents (`pipeline:`) -> tokenizer and `.bin/.idx` (`tokenize:`), from one YAML.

    megatron-mimo data CONFIG.yaml [key=value ...]

What is finished is kept, what was interrupted continues where it stopped, a folder made in another way is only replaced
with overwrite=true. docs/data.md explains the rest.
"""

import argparse
import shlex
import time

from megatron_mimo.cli.command import exit_code, own_program, parser_of


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("settings", nargs="*", metavar="CONFIG.yaml key=value", help="configuration, then overrides")
    parser.add_argument("--config", metavar="FILE", help="the configuration, when it does not come first")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and write nothing")
    parser.add_argument("--tasks", metavar="STAGE:FIRST-LAST", help="run these tasks of one stage and end")
    parser.add_argument("--finish", action="store_true", help="all stages are done: tokenize and write the report")
    parser.add_argument("--report", action="store_true", help="write the pipeline's report.html and end")
    parser.add_argument("--verify", action="store_true", help="hash every finished file; those damaged are made anew")
    return parser


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and `[FILE, override, ...]`."""
    options, more = parser().parse_known_args(arguments)
    settings = [*([options.config] if options.config else []), *options.settings, *more]
    if not settings:
        parser().error("give a configuration: examples/nano/data.yaml is one")
    return options, settings


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    start = time.monotonic()
    options, (file, *overrides) = parse(arguments)
    # Imported late: what is asked for may be help.
    from megatron_mimo.cli.preprocess_job import run
    from megatron_mimo.data.job import load_job

    command = shlex.join([*own_program("data"), file, *overrides])

    def report(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True)

    return exit_code(
        lambda: run(load_job(file, overrides), options, command, report),
        f"interrupted; to continue:\n  {command}",
    )
