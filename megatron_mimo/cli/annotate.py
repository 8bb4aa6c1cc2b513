"""Label pages with a large model: megatron-mimo annotate examples/mimo_7b/tagger.yaml [key=value ...]"""

import argparse
import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import UserError, load

if TYPE_CHECKING:
    from megatron_mimo.data.tag.annotate import AnnotationConfig


def parser() -> argparse.ArgumentParser:
    """The options."""
    return settings_parser(__doc__)


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    from megatron_mimo.data.tag.annotate import AnnotationConfig

    return exit_code(lambda: run(load(AnnotationConfig, options.settings)))


def run(config: "AnnotationConfig") -> int:
    """Annotate, and print the counts and the cost; 1 where nothing was written. Raises UserError."""
    from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
    from megatron_mimo.data.tag.annotate import annotate

    paths = shard_paths(config.documents)
    if not paths:
        raise UserError(f"no documents in {config.documents}: point annotation.documents at a folder of shards")
    documents = itertools.chain.from_iterable(map(read_documents, paths))
    counts = asyncio.run(annotate(itertools.islice(documents, config.max_documents), config))
    for name, number in sorted(counts.items()):
        print(f"{name:<40} {number:>12,}")
    prices = config.endpoint
    cost = counts["prompt_tokens"] * prices.price_per_million_prompt_tokens
    cost += counts["completion_tokens"] * prices.price_per_million_completion_tokens
    print(f"{'cost':<40} {cost / 1e6:>12,.2f}")
    return 0 if Path(config.output).exists() else 1
