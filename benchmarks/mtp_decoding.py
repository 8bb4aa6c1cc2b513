"""Decode tokens/s of vLLM with 0 to n drafted tokens per step, and how many drafts of each MTP layer are accepted.

python benchmarks/mtp_decoding.py --model MODEL_DIR [--prompts prompts.jsonl] [--batch-sizes 1 8]

Greedy decoding of the same prompts, one after the other for k = 0, 1, ..., n (n: MTP layers of the model), the whole
repeated `--rounds` times; the table shows the median. Each measurement has a vLLM of its own, warmed up first. A step
verifies k + 1 tokens and runs k MTP layers, so it costs more than a step without drafts; it yields one token and the
accepted drafts. Exit code 1 where outputs with and without drafts differ.
"""

import argparse
import sys
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.serve.compare_drafts import read_prompts, summary, table
from megatron_mimo.serve.speculative import mtp_speculative_config
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup, generate

ARITHMETIC = [
    f"Question: {a}{operator}{b}=?\n" for a, b in ((47, 38), (61, 17), (25, 96), (83, 44)) for operator in "+-"
]


def main() -> int:
    """Print the table."""
    args = _arguments()
    try:
        config = mtp_speculative_config(args.model)
        num_layers = config["num_speculative_tokens"] if config else 0
        runs = measure(args, num_layers)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for batch_size in args.batch_sizes:
        print_table(batch_size, [[run[str(batch_size)] for run in runs_of_k] for runs_of_k in runs])
    return 0 if outputs_agree(runs) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported model")
    parser.add_argument("--prompts", type=Path, help="JSON lines with a field `prompt` (default: small sums)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], help="prompts decoded together")
    parser.add_argument("--max-tokens", type=int, default=128, help="tokens generated for each prompt")
    parser.add_argument("--ignore-eos", action="store_true", help="go on after an end-of-document token")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def measure(args: argparse.Namespace, num_layers: int) -> list[list[dict[str, GroupGeneration]]]:
    """[k][round] -> generations by batch size."""
    groups = [PromptGroup("warm-up", ARITHMETIC[:1], max_tokens=16)]
    prompts = read_prompts(args.prompts) if args.prompts else ARITHMETIC
    for size in args.batch_sizes:
        repeated = [prompts[i % len(prompts)] for i in range(size)]
        groups.append(PromptGroup(str(size), repeated, args.max_tokens, args.ignore_eos))
    runs: list[list[dict[str, GroupGeneration]]] = [[] for _ in range(num_layers + 1)]
    for round_index in range(args.rounds):
        for num_drafts in range(num_layers + 1):
            print(f"round {round_index + 1} of {args.rounds}, k = {num_drafts}", file=sys.stderr, flush=True)
            runs[num_drafts].append(generate(args.model, groups, num_drafts))
    return runs


def print_table(batch_size: int, runs: list[list[GroupGeneration]]) -> None:
    """A line for each k: tokens per step, median tokens/s and range, compared with k = 0, acceptance by position."""
    plain = runs[0][0]
    print(f"\nbatch of {batch_size}, {plain.generated_tokens} tokens")
    rounds = [[[run] for run in runs_of_k] for runs_of_k in runs]
    print(*table([summary(f"k = {k}", found, plain.texts) for k, found in enumerate(rounds)]), sep="\n")


def outputs_agree(runs: list[list[dict[str, GroupGeneration]]]) -> bool:
    """Whether every run wrote the same texts; prints how many differ."""
    plain = runs[0][0]
    differing = total = 0
    for run in (run for runs_of_k in runs for run in runs_of_k):
        for name, generation in run.items():
            pairs = list(zip(generation.texts, plain[name].texts, strict=True))
            differing += sum(text != expected for text, expected in pairs)
            total += len(pairs)
    print(f"\ntexts that differ from those without drafts: {differing} of {total}")
    return differing == 0


if __name__ == "__main__":
    sys.exit(main())
