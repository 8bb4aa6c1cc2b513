"""Compares forms of drafts: megatron-mimo compare-drafts NAME=MODEL_DIR ... --prompts heldout.jsonl

Decodes the same prompts greedily with every model in vLLM, each in its own process, and once without drafts. The
table says which drafts were accepted by place, tokens per step, tokens/s, and which texts differ from those without
drafts. The models must have the same main model: forms of its MTP layers are what differs (docs/drafting.md).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import write_json
from megatron_mimo.serve.speculative import mtp_speculative_config, read_model_config
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup, generate

PLAIN = "no drafts"
WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Measured:
    """One form over all rounds."""

    name: str
    tokens_per_step: float
    accepted: list[float]
    """Share of the steps that accepted the draft of each place."""
    tokens_per_second: float
    """Median over the rounds."""
    slowest: float
    fastest: float
    differing_texts: int
    texts: int


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL_DIR", help="exported folders of one main model")
    parser.add_argument("--prompts", type=Path, required=True, help="JSON lines with a field `prompt`")
    parser.add_argument("--num-prompts", type=int, default=24, help="the first of them")
    parser.add_argument(
        "--num-speculative-tokens", "--num-drafts", dest="num_drafts", type=int, default=3, metavar="TOKENS",
        help="tokens drafted per step",
    )  # fmt: skip
    parser.add_argument(
        "--max-new-tokens", "--max-tokens", dest="max_tokens", type=int, default=128, metavar="TOKENS",
        help="of each answer",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, help="prompts decoded together; 0: all")
    parser.add_argument("--rounds", type=int, default=1, help="times that everything is measured")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code: 1 where texts differ from those without drafts."""
    options = parser().parse_args(arguments)
    try:
        measured = run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(table(measured)))
    if options.output:
        write_json(options.output, [asdict(one) for one in measured])
    return int(any(one.differing_texts for one in measured))


def run(options: argparse.Namespace) -> list[Measured]:
    """Raises UserError for folders, prompts and names that cannot be."""
    models = named_models(options.models)
    for folder in models.values():
        mtp_speculative_config(folder, options.num_drafts)
    check_same_main_model(models)
    prompts = read_prompts(options.prompts, options.num_prompts)
    runs = {PLAIN: (next(iter(models.values())), 0)}
    runs |= {name: (folder, options.num_drafts) for name, folder in models.items()}
    results: dict[str, list[list[GroupGeneration]]] = {name: [] for name in runs}
    for number in range(options.rounds):
        for name, (folder, drafts) in runs.items():
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
            groups = prompt_groups(folder, prompts, options.batch, options.max_tokens)
            generated = generate(folder, groups, drafts)
            results[name].append([generated[group.name] for group in groups[1:]])
    plain = [text for part in results[PLAIN][0] for text in part.texts]
    return [summary(name, rounds, plain) for name, rounds in results.items()]


def named_models(words: Sequence[str]) -> dict[str, Path]:
    """NAME=FOLDER ... by name; raises UserError for other words and for names that occur twice."""
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (name, sign, folder) in zip(words, pairs, strict=True) if not (name and sign and folder)]
    names = [name for name, _, _ in pairs]
    if wrong or len(set(names)) < len(names) or PLAIN in names:
        raise UserError(f"{(wrong or names)[0]}: name each model once, NAME=MODEL_DIR, and none of them {PLAIN!r}")
    return {name: Path(folder) for name, _, folder in pairs}


def check_same_main_model(models: dict[str, Path]) -> None:
    """Raise UserError where shapes say that two folders cannot have the same main model."""
    keys = ("num_hidden_layers", "hidden_size", "vocab_size", "rope_theta", "intermediate_size")
    shapes = {name: tuple(map(read_model_config(folder).get, keys)) for name, folder in models.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"these are different main models ({', '.join(keys)}): {shapes}")


def read_prompts(path: Path, number: int | None = None) -> list[str]:
    """The first `number` prompts, or all; raises UserError for a file without any."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[:number]
        prompts = [json.loads(line)["prompt"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a file of JSON lines with a field `prompt` ({error!r})") from error
    if not prompts:
        raise UserError(f"{path} holds no prompt")
    return prompts


def prompt_groups(folder: Path, prompts: Sequence[str], batch: int, max_tokens: int) -> list[PromptGroup]:
    """A warm-up, then the prompts in groups that are decoded together, in the chat template where there is one."""
    from transformers import PreTrainedTokenizerFast  # seconds to import

    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(folder))
    texts = list(prompts)
    if tokenizer.chat_template:
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = [tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    size = batch or len(texts)
    groups = [texts[start : start + size] for start in range(0, len(texts), size)]
    made = [PromptGroup(str(number), [*group], max_tokens) for number, group in enumerate(groups)]
    return [PromptGroup("warm-up", [*groups[0]], WARM_UP_TOKENS), *made]


def summary(name: str, rounds: Sequence[Sequence[GroupGeneration]], plain: Sequence[str]) -> Measured:
    """What the rounds of one form say; acceptance is that of the first, which the others repeat."""
    speeds = [sum(part.generated_tokens for part in parts) / sum(part.seconds for part in parts) for parts in rounds]
    steps = sum(part.draft_rounds for part in rounds[0])
    places = zip(*(part.accepted_by_position for part in rounds[0] if part.accepted_by_position), strict=True)
    accepted = [sum(counts) / steps for counts in places] if steps else []
    texts = [text for part in rounds[0] for text in part.texts]
    return Measured(
        name=name,
        tokens_per_step=1 + sum(accepted),
        accepted=accepted,
        tokens_per_second=statistics.median(speeds),
        slowest=min(speeds),
        fastest=max(speeds),
        differing_texts=sum(text != expected for text, expected in zip(texts, plain, strict=True)),
        texts=len(texts),
    )


def table(measured: Sequence[Measured]) -> Iterator[str]:
    """A line a form; the first is without drafts."""
    width = max(len(one.name) for one in measured) + 2
    places = max(len(one.accepted) for one in measured)
    yield f"{'':<{width}}{'tokens/step':>12}{'tokens/s':>10}{'range':>14}{'x plain':>9}  accepted by draft place"
    for one in measured:
        spread = f"{one.slowest:.0f}-{one.fastest:.0f}"
        shares = "".join(f"{share:>8.1%}" for share in one.accepted) or f"{'-':>8}" * places
        ratio = one.tokens_per_second / measured[0].tokens_per_second
        line = f"{one.name:<{width}}{one.tokens_per_step:>12.2f}{one.tokens_per_second:>10.0f}{spread:>14}{ratio:>9.2f}"
        differ = f"  {one.differing_texts} of {one.texts} texts differ" if one.differing_texts else ""
        yield f"{line}  {shares}{differ}"


if __name__ == "__main__":
    sys.exit(main())
