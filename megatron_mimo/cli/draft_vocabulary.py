"""Which tokens the MTP layers of an exported model may draft: megatron-mimo draft-vocabulary MODEL_DIR --size 32000
--texts answers.jsonl

Counts the tokens of text such as the model is to write and keeps the most frequent ones, in MODEL_DIR's
draft_vocabulary.json. Served by vLLM with this project's plugin, the MTP layers then compute that many logits, and no
text changes: the main model verifies drafts with its whole vocabulary. docs/drafting.md says what it brings.
"""

import argparse
from pathlib import Path

import numpy as np

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError
from megatron_mimo.serve import draft_vocabulary


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="an exported folder with its tokenizer")
    parser.add_argument("--size", type=int, help="tokens to keep; without it the coverage of several sizes is shown")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="conversations or texts, JSON lines")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="data folders (megatron-mimo data)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Count, choose, write; returns the exit code."""
    options = parser().parse_args(arguments)
    if not options.texts and not options.data:
        parser().error("name what to count: --texts FILE ... or --data FOLDER ...")
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Print the coverage of several sizes, and write the list where a size is given; raises UserError."""
    # Imported late: the tokenizer takes a second, in which a wrong folder can be refused.
    from megatron_mimo.data.chat.token_counts import count_chat_tokens, count_data_tokens
    from megatron_mimo.serve.speculative import read_model_config  # loads torch

    config = read_model_config(options.model)
    try:
        vocab_size, ends = int(config["vocab_size"]), config["eos_token_id"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{options.model}/config.json has no {error}: export the model again") from error
    counts = np.zeros(vocab_size, dtype=np.int64)
    if options.texts:
        counts += count_chat_tokens(options.texts, options.model, vocab_size)
    for folder in options.data:
        counts += count_data_tokens(folder, options.model, vocab_size)
    print_coverage(counts)
    if options.size is None:
        return
    always = ends if isinstance(ends, list) else [ends]
    counted = [str(path) for path in (*options.texts, *options.data)]
    chosen = draft_vocabulary.choose(counts, options.size, always, counted)
    path = draft_vocabulary.write(options.model, chosen)
    print(f"{path}: {len(chosen.token_ids):,} of {vocab_size:,} tokens, {chosen.coverage:.2%} of the text")


def print_coverage(counts: np.ndarray) -> None:
    """A line a size: the share of the text that so many tokens make, and the share of the head that is left."""
    ordered = np.sort(counts)[::-1].cumsum()
    print(f"{int(counts.sum()):,} tokens counted, {int((counts > 0).sum()):,} of {len(counts):,} occur")
    print(f"{'size':>9} {'of the text':>12} {'of the head':>12}")
    size = len(counts) // 2
    while size >= max(len(counts) // 64, 16):
        print(f"{size:>9,} {ordered[size - 1] / max(ordered[-1], 1):>12.2%} {size / len(counts):>12.1%}")
        size //= 2
