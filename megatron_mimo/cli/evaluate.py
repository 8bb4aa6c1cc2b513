"""Evaluate a model on benchmarks.

    megatron-mimo evaluate CONFIG.yaml [key=value ...]
    megatron-mimo evaluate --preset report --model FOLDER|URL --data FOLDER [key=value ...]
    megatron-mimo compare FIRST SECOND [--output comparison.html]
    megatron-mimo evaluate tasks [--table]
    megatron-mimo evaluate explain --model FOLDER|URL --data FOLDER [--task aime24]

--model, --data and --output also override those of CONFIG.yaml. Answers and grades are kept under OUTPUT/cache: the
same command continues where it stopped. OUTPUT/results.json and OUTPUT/report/index.html are written at the end.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from megatron_mimo.cli import evaluate_explain
from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig
from megatron_mimo.config.layers import apply_override, read_merged
from megatron_mimo.config.load import from_tree
from megatron_mimo.config.renamed import with_present_key


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: choose(words), "stopped; run the same command again to go on")


def choose(arguments: list[str]) -> None:
    """Compare, list the tasks, explain a score, or evaluate."""
    if arguments[:1] == ["compare"]:
        compare(arguments[1:])
    elif arguments[:1] == ["tasks"]:
        show_tasks(arguments[1:])
    elif arguments[:1] == ["explain"]:
        evaluate_explain.main(arguments[1:])
    else:
        run(read_config(arguments))


def show_tasks(arguments: list[str]) -> None:
    """Names of tasks and presets; with --table what every row of `base` and `report` is."""
    parser = argparse.ArgumentParser(prog="megatron-mimo evaluate tasks")
    parser.add_argument("--table", action="store_true", help="protocol, files and what was verified")
    if parser.parse_args(arguments).table:
        from megatron_mimo.eval.protocol_table import text

        print(text())
        return
    from megatron_mimo.eval.presets import PRESETS
    from megatron_mimo.eval.registry import names

    print("tasks:", *names(), sep="\n  ")
    print("presets:", *PRESETS, sep="\n  ")


def read_config(arguments: list[str]) -> EvaluateConfig:
    """Configuration file or preset with its overrides; raises UserError."""
    from megatron_mimo.eval.presets import preset

    parser = parser_of(__doc__)
    parser.add_argument("settings", nargs="*", help="CONFIG.yaml, then key=value")
    parser.add_argument("--preset", help="tasks with the settings of the report and others, see `tasks`")
    for name in ("model", "data", "output"):
        parser.add_argument(f"--{name}")
    options = parser.parse_intermixed_args(arguments)
    files = [setting for setting in options.settings if "=" not in setting]
    if len(files) + (options.preset is not None) != 1:
        raise UserError("give one CONFIG.yaml or one --preset; --help shows how")
    tree: dict[str, Any] = read_merged(Path(files[0])) if files else {}
    if options.preset is not None:
        tree["tasks"] = [vars(task) for task in preset(options.preset)]
    tree |= {name: getattr(options, name) for name in ("model", "data", "output") if getattr(options, name)}
    overrides = [with_present_key(EvaluateConfig, setting) for setting in options.settings if "=" in setting]
    for override in overrides:
        apply_override(tree, override)
    return from_tree(
        EvaluateConfig, tree, source=files[0] if files else f"preset {options.preset}", overrides=overrides
    )


def comparison_parser() -> argparse.ArgumentParser:
    """The options of `compare`."""
    text = "Two evaluations, question by question: differences with intervals, and a page.\n\n"
    parser = parser_of(text + "    megatron-mimo compare FIRST SECOND [--output comparison.html]")
    parser.add_argument("first", type=Path, help="output folder or results.json")
    parser.add_argument("second", type=Path, help="the one that it is compared with")
    parser.add_argument("--output", type=Path, default=Path("comparison.html"), help="page (default comparison.html)")
    return parser


def run(config: EvaluateConfig) -> None:
    """Evaluate, write results and report."""
    from megatron_mimo.convert.card_results import write_benchmarks
    from megatron_mimo.eval.session import evaluate_and_write
    from megatron_mimo.eval.summary import table

    results, report = asyncio.run(evaluate_and_write(config))
    if card := write_benchmarks(Path(config.model), results):
        print(card)
    print(f"\n{results['model']}\n{table(results)}\n\nresults: {config.output}/results.json\nreport:  {report}")


def compare(arguments: list[str]) -> None:
    """Print the paired comparison of two evaluations and write its page."""
    options = comparison_parser().parse_intermixed_args(arguments)
    from megatron_mimo.eval.compare import compare_results, comparison_page, comparison_text, read_results
    from megatron_mimo.platform.files import write_text

    first, second = read_results(options.first), read_results(options.second)
    rows = compare_results(first, second)
    write_text(options.output, comparison_page(first, second, rows), errors="replace")
    print(f"{comparison_text(rows, first['model'], second['model'])}\n\npage: {options.output}")
