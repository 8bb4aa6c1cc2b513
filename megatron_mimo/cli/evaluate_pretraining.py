"""Evaluate an exported model on the held-out part of its data folder.

    megatron-mimo evaluate-pretraining --model MODEL_DIR --data DATA_DIR --output evaluation.json

Prints, and writes as JSON: held-out bits per byte compared with a Kneser-Ney 5-gram model of the same training text and
general compressors; held-out arithmetic problems solved greedily by vLLM with MTP speculation; the share of MTP drafts
accepted, and tokens per second.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

if TYPE_CHECKING:
    from megatron_mimo.data.tokens.manifest import Manifest
    from megatron_mimo.eval.huggingface import HuggingFaceScorer

START = time.monotonic()


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported model")
    parser.add_argument("--data", type=Path, required=True, help="data folder the model was trained on")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--problems", type=int, help="solve the first N problems only")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the evaluation; returns the exit code."""
    options = parser().parse_args(arguments)
    # Imported late, here and below: torch and transformers take seconds, which --help does not need.
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return exit_code(lambda: run(options.model, options.data, options.output, options.problems))


def run(model: Path, data: Path, output: Path, num_problems: int | None) -> None:
    """Evaluate, write the JSON file and print the tables; raises UserError."""
    from megatron_mimo.convert.card_results import write_results
    from megatron_mimo.platform.files import write_text

    make_parent(output)
    results = evaluate(model, data, num_problems)
    write_text(output, json.dumps(results, indent=2) + "\n")
    write_results(model, results)
    print(f"\n{tables(results)}\n\nwritten to {output}")


def evaluate(model: Path, data: Path, num_problems: int | None) -> dict[str, Any]:
    """All measurements as one JSON tree."""
    from megatron_mimo.data.tokens.manifest import check_tokenizer, read_manifest
    from megatron_mimo.data.tokens.tokenizer import encode_documents, load_tokenizer
    from megatron_mimo.eval import pretraining
    from megatron_mimo.eval.arithmetic import read_problems
    from megatron_mimo.eval.huggingface import HuggingFaceScorer
    from megatron_mimo.serve.speculative import read_model_config
    from megatron_mimo.serve.vllm_engine import generate

    manifest = read_manifest(data)
    check_tokenizer(manifest, data, model)
    problems = read_problems(data / "heldout" / "arithmetic.jsonl")[:num_problems]
    held_out = pretraining.read_held_out(data)
    tokenizer = load_tokenizer(model)
    tokenized = {s: [ids[:-1] for ids in encode_documents(tokenizer, docs)] for s, docs in held_out.items()}
    sizes = pretraining.size_bytes(held_out)

    training = list(training_documents(manifest, data))
    progress(f"baselines: {sum(map(len, training)):,} bytes of training text, {sizes['all']:,} held out")
    bits_per_byte = pretraining.baseline_bits_per_byte(held_out, training)

    progress(f"model: scoring {sum(len(ids) for docs in tokenized.values() for ids in docs):,} held-out tokens")
    bits = model_bits(HuggingFaceScorer.load(model), tokenized, manifest.tokenizer.eod_token_id)
    bits_per_byte = {"model": pretraining.per_byte(bits, held_out)} | bits_per_byte

    progress(f"vLLM: solving {len(problems)} problems and continuing held-out documents")
    groups = pretraining.prompt_groups(problems, tokenized)
    generations = generate(model, groups)
    progress("done")
    return {
        "model": str(model),
        "step": read_model_config(model).get("trained_steps"),
        "data": str(data),
        "training_bytes": sum(map(len, training)),
        "held_out_bytes": sizes,
        "bits_per_byte": bits_per_byte,
        "problems_in_training_text": pretraining.problems_seen(problems, training),
        "arithmetic": pretraining.problem_scores(problems, generations["problems"].texts),
        "speculation": pretraining.speculation(generations),
        "samples": pretraining.samples(groups, generations, tokenizer.decode),
        "seconds": time.monotonic() - START,
    }


def training_documents(manifest: "Manifest", data: Path) -> Iterator[bytes]:
    """The text that the shards of the train split hold, decoded; raises UserError where it is not all of it."""
    import numpy as np

    from megatron_mimo.data.tokens.manifest import open_split
    from megatron_mimo.data.tokens.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(data / "tokenizer")
    for source in manifest.sources.values():
        tokens = np.asarray(open_split(data, source, "train").tokens)
        ends = np.flatnonzero(tokens == manifest.tokenizer.eod_token_id)
        ids = [piece[:-1].tolist() for piece in np.split(tokens, ends + 1)[:-1]]
        documents = [text.encode() for text in tokenizer.decode_batch(ids, skip_special_tokens=False)]
        found_bytes = sum(map(len, documents))
        if source.train.bytes not in (found_bytes, None):
            raise UserError(
                f"{data / source.train.prefix}.bin decodes to {found_bytes} bytes of text, the manifest says"
                f" {source.train.bytes}: make the data folder anew (megatron-mimo data)"
            )
        yield from documents


def model_bits(scorer: "HuggingFaceScorer", tokenized: dict[str, list[list[int]]], eod: int) -> dict[str, float]:
    """Code length of every source in bits."""
    from megatron_mimo.eval.bits_per_byte import document_nats

    context = scorer.context_tokens
    nats = {source: document_nats(scorer, docs, eod, context).sum() for source, docs in tokenized.items()}
    return {source: float(value) / math.log(2) for source, value in nats.items()}


def tables(results: dict[str, Any]) -> str:
    """The results as text."""
    sources = list(results["held_out_bytes"])
    lines = ["held-out bits per byte    " + "".join(f"{source:>12}" for source in sources)]
    for name, row in results["bits_per_byte"].items():
        lines.append(f"{name:26}" + "".join(f"{row[source]:12.3f}" for source in sources))
    lines.append("(gzip, zstd and xz have not seen the training text, unless it is named)\n")
    for name, row in results["arithmetic"].items():
        lines.append(
            f"arithmetic {name:5} {row['correct']:4} of {row['total']:4} = {row['accuracy']:6.1%}"
            f"   (95 % interval {row['low']:.1%} to {row['high']:.1%})"
        )
    lines.append(f"problems that stand in the training text: {results['problems_in_training_text']}\n")
    for name, row in results["speculation"].items():
        rate = "none drafted" if row["acceptance_rate"] is None else f"{row['acceptance_rate']:6.1%} accepted"
        lines.append(
            f"MTP drafts, {name:24} {rate} of {row['draft_tokens']:6}, {row['tokens_per_second']:7.0f} tokens/s"
        )
    return "\n".join(lines)


def make_parent(path: Path) -> None:
    """Make the folder of the output before the work begins; raises UserError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path.parent}: {error.strerror}; choose another --output") from error


def progress(line: str) -> None:
    """One line with the seconds since the start."""
    print(f"[{time.monotonic() - START:5.1f} s] {line}", flush=True)
