"""Did pre-training work? Bits per byte of held-out text beside the baselines, and what MTP speculation is worth.

The bits of a source are summed over its held-out documents; `all` is the sum over all sources divided by all bytes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.eval import compression
from megatron_mimo.eval.arithmetic import HeldOutProblem, score
from megatron_mimo.eval.kneser_ney import KneserNey
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup

KNESER_NEY_ORDER = 5
PROBLEM_SOURCE = "arithmetic"
"""Its held-out documents are the problems with their solutions."""
ARITHMETIC_MAX_TOKENS = 192
SAMPLES_PER_GROUP = 3
TEXT_PROMPTS, TEXT_PROMPT_TOKENS, TEXT_MAX_TOKENS = 64, 256, 64

HeldOut = Mapping[str, list[str]]
"""Source -> its held-out documents."""


def read_held_out(folder: Path) -> dict[str, list[str]]:
    """Documents by source from `heldout/text/SOURCE.jsonl` of a data folder; raises UserError without any."""
    paths = sorted((folder / "heldout" / "text").glob("*.jsonl"))
    if not paths:
        raise UserError(f"no held-out text in {folder}: make the data folder with megatron-mimo data")
    texts = {path.stem: [json.loads(line)["text"] for line in path.open(encoding="utf-8")] for path in paths}
    return {source: documents for source, documents in texts.items() if documents}


def size_bytes(held_out: HeldOut) -> dict[str, int]:
    """UTF-8 size of every source, and of `all`."""
    return _with_total({source: len("".join(documents).encode()) for source, documents in held_out.items()})


def baseline_bits_per_byte(held_out: HeldOut, training: list[bytes]) -> dict[str, dict[str, float]]:
    """Method -> source -> bits per byte, of methods trained on `training` (its documents) or on nothing."""
    kneser_ney = KneserNey.fit(training, KNESER_NEY_ORDER)
    streams = {source: "".join(documents).encode() for source, documents in held_out.items()}
    primed = compression.PrimedZstd(b"".join(training), max(map(len, streams.values())))
    compressors: dict[str, Callable[[bytes], int]] = {
        "gzip -9": compression.gzip_bytes,
        "zstd -19": compression.zstd_bytes,
        "xz -9e": compression.xz_bytes,
        "zstd -19 + training text": primed.size_bytes,
    }
    bits = {"Kneser-Ney 5-gram": {s: kneser_ney.bits([d.encode() for d in docs]) for s, docs in held_out.items()}}
    for name, measure in compressors.items():
        bits[name] = {source: 8.0 * measure(stream) for source, stream in streams.items()}
    return {name: per_byte(by_source, held_out) for name, by_source in bits.items()}


def per_byte(bits: Mapping[str, float], held_out: HeldOut) -> dict[str, float]:
    """Bits of every source -> bits per byte of every source and of `all`."""
    sizes = size_bytes(held_out)
    return {source: total / sizes[source] for source, total in _with_total(dict(bits)).items()}


def prompt_groups(problems: list[HeldOutProblem], documents: Mapping[str, list[list[int]]]) -> list[PromptGroup]:
    """What vLLM completes: every problem, and the first half (at most 256 tokens) of other documents (token ids)."""
    groups = [PromptGroup("problems", [problem.prompt for problem in problems], ARITHMETIC_MAX_TOKENS)]
    for source, tokenized in documents.items():
        prompts = [ids[: min(len(ids) // 2, TEXT_PROMPT_TOKENS)] for ids in tokenized if len(ids) > 1]
        if prompts and source != PROBLEM_SOURCE:
            groups.append(PromptGroup(f"{source} documents", list(prompts[:TEXT_PROMPTS]), TEXT_MAX_TOKENS))
    return groups


def samples(
    groups: list[PromptGroup], generations: Mapping[str, GroupGeneration], decode: Callable[[list[int]], str]
) -> list[dict[str, str]]:
    """Some prompts of every group with what followed, evenly spaced: a report shows them."""
    chosen = []
    for group in groups:
        texts = generations[group.name].texts
        for index in range(0, len(texts), -(-len(texts) // SAMPLES_PER_GROUP)):
            prompt = group.prompts[index]
            text = prompt if isinstance(prompt, str) else decode(prompt)
            chosen.append({"group": group.name, "prompt": text, "continuation": texts[index]})
    return chosen


def speculation(generations: Mapping[str, GroupGeneration]) -> dict[str, dict[str, Any]]:
    """Acceptance and speed of every group of prompts, and pooled over all of them."""
    counters = {name: asdict(generation) for name, generation in generations.items()}
    keys = ("generated_tokens", "seconds", "draft_tokens", "accepted_tokens")
    counters["all"] = {key: sum(counter[key] for counter in counters.values()) for key in keys}
    return {
        name: {key: counter[key] for key in keys}
        | {
            "acceptance_rate": counter["accepted_tokens"] / counter["draft_tokens"]
            if counter["draft_tokens"]
            else None,
            "tokens_per_second": counter["generated_tokens"] / counter["seconds"],
        }
        for name, counter in counters.items()
    }


def problem_scores(problems: list[HeldOutProblem], completions: list[str]) -> dict[str, dict[str, Any]]:
    """Accuracy of all problems and of each operator (the one of `+-*` in the problem's id)."""
    scores = {"all": asdict(score(problems, completions))}
    for operator in "+-*":
        chosen = [(p, c) for p, c in zip(problems, completions, strict=True) if operator in p.id]
        if chosen:
            scores[operator] = asdict(score([p for p, _ in chosen], [c for _, c in chosen]))
    return scores


def problems_seen(problems: list[HeldOutProblem], training: list[bytes]) -> int:
    """Problems whose prompt stands word for word in a training document; 0 for a held-out set."""
    text = b"\0".join(training)
    return sum(problem.prompt.strip().encode() in text for problem in problems)


def _with_total(values: dict[str, Any]) -> dict[str, Any]:
    return {"all": sum(values.values())} | values
