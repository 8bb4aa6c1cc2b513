"""`megatron-mimo evaluate explain`: how a score moves with the way that the model is asked.

    megatron-mimo evaluate explain --model FOLDER|URL --data FOLDER [--task aime24] [key=value ...]

Asks one task in ten ways: as base models are asked it, without stop strings, with worked examples, in the chat template
with three system messages, at shorter lengths, greedily. key=value changes settings of an evaluation (`limit=10`,
`generation.max_concurrent_requests=32`). Nothing is asked twice: the same command continues.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from megatron_mimo.cli.command import parser_of
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.config.layers import apply_override
from megatron_mimo.config.load import from_tree


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = parser_of(__doc__)
    made.add_argument("settings", nargs="*", help="key=value")
    made.add_argument("--model", required=True, help="folder of an exported model, or the address of an endpoint")
    made.add_argument("--data", required=True, help="folder with the benchmark's file")
    made.add_argument("--output", default="evaluation", help="folder of answers and page (default evaluation)")
    made.add_argument("--task", default="aime24", help="aime24 (default), aime25, gsm8k, math, questions, ...")
    made.add_argument("--path", help="the task's file, where it is not the usual one in --data")
    made.add_argument("--repetitions", type=int, default=8, help="answers to each problem (default 8)")
    made.add_argument("--max-new-tokens", type=int, default=32768, help="longest answer (default 32768)")
    return made


def main(arguments: list[str]) -> None:
    """Ask, print the table, write explain.json and explain.html."""
    from megatron_mimo.eval.engines import make_engine
    from megatron_mimo.eval.explain import explain, explained_page, output_files, text
    from megatron_mimo.platform.files import write_json, write_text

    options = parser().parse_intermixed_args(arguments)
    tree: dict[str, Any] = {name: getattr(options, name) for name in ("model", "data", "output")}
    # Engines need no chat template for tasks of base models; rows that need one are left out where there is none.
    tree["tasks"] = [{"task": f"base_{options.task}"}]
    for override in options.settings:
        apply_override(tree, override)
    config = from_tree(EvaluateConfig, tree, source="evaluate explain", overrides=options.settings)
    asked = TaskConfig(
        task=options.task,
        path=options.path,
        repetitions=options.repetitions,
        max_new_tokens=options.max_new_tokens,
        limit=config.limit,
    )
    Path(config.output).mkdir(parents=True, exist_ok=True)
    explained = asyncio.run(explain(config, asked, make_engine(config)))
    figures, page = output_files(config.output)
    write_json(figures, explained)
    write_text(page, explained_page(explained), errors="replace")
    print(f"\n{explained['task']}, {explained['model']}\n{text(explained)}\n\npage: {page}")
