"""Train a page tagger: megatron-mimo train-tagger OUTPUT --kind linear [--annotations pages.jsonl] [--pages 6000]

Training pages come from megatron-mimo annotate (a large model's labels), or, without --annotations, from construction.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

if TYPE_CHECKING:
    from megatron_mimo.data.tag.labelled import LabelledPage
    from megatron_mimo.data.tag.tagger import Tagger


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("output", type=Path, help="folder of the tagger, for the step `tag`")
    parser.add_argument("--kind", choices=["linear", "language_model"], default="linear")
    parser.add_argument("--annotations", type=Path, help="JSON Lines of megatron-mimo annotate")
    parser.add_argument("--pages", type=int, default=6000, help="constructed pages, without --annotations")
    parser.add_argument("--initial", type=Path, help="Hugging Face folder that the language model starts from")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Train and save the tagger; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Read or construct the pages, train, save; raises UserError."""
    from megatron_mimo.data.tag.annotate import annotated_pages
    from megatron_mimo.data.tag.construct import construct

    try:
        pages = (
            list(annotated_pages(options.annotations))
            if options.annotations
            else construct(options.pages, options.seed)
        )
        train(pages, options).save(options.output)
    except OSError as error:
        raise UserError(str(error)) from error
    print(f"{options.output}: {options.kind} tagger of {len(pages):,} pages")


def train(pages: list["LabelledPage"], options: argparse.Namespace) -> "Tagger":
    """The tagger of the kind that the options ask for."""
    from megatron_mimo.data.tag.linear import LinearSettings, LinearTagger

    settings = {"seed": options.seed} | ({"epochs": options.epochs} if options.epochs else {})
    if options.kind == "linear":
        return LinearTagger.train(pages, LinearSettings(**settings))
    from megatron_mimo.data.tag.language_model import LanguageModelSettings, LanguageModelTagger

    if options.initial:
        settings["learning_rate"] = 1e-4
    tagger = LanguageModelTagger.train(pages, LanguageModelSettings(**settings), options.initial, options.device)
    return tagger.to("cpu")
