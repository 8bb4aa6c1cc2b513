"""Make a data folder of `.bin/.idx` pairs that Megatron-LM, NeMo or another program has tokenized already.

    megatron-mimo import-tokens web=/data/web_*_text_document code=/data/code_text_document \\
        --tokenizer /models/tokenizer --output runs/data

NAME=PREFIX names a source and a pair PREFIX.bin, PREFIX.idx, or a pattern of several; a NAME may come again. The pairs
stay where they are: the folder holds a manifest that refers to them, and a copy of the tokenizer. docs/data.md explains
what is measured and refused. The same sources can be written into the file of megatron-mimo tokenize (`pairs`).
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, own_program, parser_of
from megatron_mimo.config import UserError

if TYPE_CHECKING:
    from megatron_mimo.data.tokens.sources import SourceConfig


def main(arguments: list[str] | None = None) -> int:
    """Import; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    command = shlex.join([*own_program("import-tokens"), *(sys.argv[1:] if arguments is None else arguments)])
    return exit_code(lambda: run(options), f"interrupted; to continue with the pairs that are left:\n  {command}")


def run(options: argparse.Namespace) -> None:
    """Make the folder and say how to train on it; raises UserError."""
    from megatron_mimo.data.tokens.preprocess import PreprocessConfig, TokenizerConfig, preprocess

    config = PreprocessConfig(
        output_dir=str(options.output),
        sources=sources_of(options),
        tokenizer=TokenizerConfig(path=str(options.tokenizer)),
        overwrite=options.overwrite,
        num_workers=options.num_workers,
    )
    manifest = preprocess(config, lambda line: print(line, flush=True))
    print(f"data folder ready: data.path={options.output} data.tokenizer={options.output / 'tokenizer'}")
    print("a mixture file that takes its sources by their tokens:\n  sources:")
    for name, source in manifest.sources.items():
        print(f"    {name}: {source.train.tokens}")


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("sources", nargs="+", metavar="NAME=PREFIX", help="a source and its pairs")
    parser.add_argument("--tokenizer", type=Path, required=True, help="Hugging Face folder the pairs were made with")
    parser.add_argument("--output", type=Path, required=True, help="data folder to make")
    parser.add_argument(
        "--eod",
        choices=["required", "add", "ignore"],
        default="required",
        help="documents without an EOD token: refuse them (default), copy the pair with the token added, take them",
    )
    parser.add_argument("--valid", action="append", default=[], metavar="NAME=PREFIX", help="pairs that are held out")
    parser.add_argument("--valid-share", type=float, default=0.002, help="else the last documents of every pair")
    parser.add_argument("--domain", default="web", help="domain of the sources in reports (default web)")
    parser.add_argument(
        "--num-workers", "--workers", type=int, default=0, help="processes that read pairs; 0 reads in this one"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that was made in another way")
    return parser


def sources_of(options: argparse.Namespace) -> list["SourceConfig"]:
    """One source a name, in the order of their first appearance; raises UserError for an argument without a name."""
    from megatron_mimo.data.tokens.sources import SourceConfig

    train, valid = grouped(options.sources), grouped(options.valid)
    if set(valid) - set(train):
        raise UserError(
            f"--valid {', '.join(sorted(set(valid) - set(train)))}: no such source among {', '.join(train)}"
        )
    return [
        SourceConfig(
            name=name,
            domain=options.domain,
            pairs=pairs,
            valid_pairs=valid.get(name),
            eod=options.eod,
            valid_share=options.valid_share,
        )
        for name, pairs in train.items()
    ]


def grouped(arguments: list[str]) -> dict[str, list[str]]:
    """`NAME=PREFIX` arguments by name."""
    pairs: dict[str, list[str]] = {}
    for argument in arguments:
        name, sign, prefix = argument.partition("=")
        if not (name and sign and prefix):
            raise UserError(f"cannot read {argument!r}: write NAME=PREFIX, for example web=/data/web_text_document")
        pairs.setdefault(name, []).append(prefix)
    return pairs
