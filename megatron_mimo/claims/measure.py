"""The outcomes of a trained model, problem by problem: megatron-mimo claims measure MODEL DATA OUTCOMES.json

    bits/SOURCE          of every held-out document: bits per byte
    solved/level N       of every held-out problem of corpus_graded: 1 where the greedy answer is right; solved/all
    recall               of every held-out document of corpus_recall: 1 where the first code asked for is right
    accepted/N           share of the drafts of MTP layer N that the main model accepted, on the problems; one number
    pass@1, pass@K       with --samples K, of the first PER_LEVEL problems of each level: chance that one, and that
                         at least one of K answers is right, sampled at temperature 1; and `pass@K - pass@1`

`accepted/N` stands there where the model has MTP layers and drafted with them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.eval.arithmetic import BOXED, extract_answer
from megatron_mimo.eval.pretraining import read_held_out
from megatron_mimo.platform.files import write_json

ANSWER_TOKENS = {"graded": 232, "recall": 12}
"""Of the longest right answers, and some more."""
PER_LEVEL = 25


@dataclass(frozen=True)
class GradedProblem:
    """A prompt with the answer that must stand in the first box of what follows."""

    outcome: str
    name: str
    prompt: str
    answer: str


def run(model: Path, data: Path, output: Path, num_samples: int = 0) -> None:
    """Measure and write; with `num_samples` also pass@k. Raises UserError."""
    held_out = read_held_out(data)
    found: dict[str, dict[str, float]] = document_bits(model, data, held_out)
    problems = {"graded": graded_problems(held_out), "recall": recall_problems(held_out)}
    fitting = {kind: asked for kind, asked in problems.items() if fits(model, kind, asked)}
    found |= solved(model, fitting)
    if num_samples and "graded" in fitting:
        found |= pass_at(model, first_of_levels(fitting["graded"]), num_samples)
    write_json(output, {"precision": json.loads((model / "config.json").read_text())["torch_dtype"], "outcomes": found})


def document_bits(model: Path, data: Path, held_out: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """`bits/SOURCE` -> document -> bits per byte."""
    from megatron_mimo.data.tokens.manifest import check_tokenizer, read_manifest
    from megatron_mimo.data.tokens.tokenizer import encode_documents, load_tokenizer
    from megatron_mimo.eval.bits_per_byte import bits_per_byte, document_nats
    from megatron_mimo.eval.huggingface import HuggingFaceScorer

    manifest, tokenizer, scorer = read_manifest(data), load_tokenizer(model), HuggingFaceScorer.load(model)
    check_tokenizer(manifest, data, model)
    found = {}
    for source, documents in held_out.items():
        ids = [tokens[:-1] for tokens in encode_documents(tokenizer, documents)]
        nats = document_nats(scorer, ids, manifest.tokenizer.eod_token_id, scorer.context_tokens)
        bits = [bits_per_byte(value, len(text.encode())) for value, text in zip(nats, documents, strict=True)]
        found[f"bits/{source}"] = {f"{index:04d}": float(value) for index, value in enumerate(bits)}
    return found


def graded_problems(held_out: Mapping[str, list[str]]) -> list[GradedProblem]:
    """Of `Level N: ...=?` and its solution."""
    found = []
    for text in held_out.get("graded", []):
        prompt, _, solution = text.partition("\n")
        level, question = prompt.removeprefix("Level ").removesuffix("=?").split(": ")
        found.append(GradedProblem(f"solved/level {level}", question, prompt + "\n", BOXED.findall(solution)[-1]))
    return found


def recall_problems(held_out: Mapping[str, list[str]]) -> list[GradedProblem]:
    """The first question of every document; it ends inside the box."""
    found = []
    for index, text in enumerate(held_out.get("recall", [])):
        facts, question, rest = text.partition("\nWhich code has ")
        name = rest.partition("?")[0]
        prompt = f"{facts}{question}{name}? "
        found.append(GradedProblem("recall", f"{index:04d}", prompt, BOXED.findall(rest)[0]))
    return found


def fits(model: Path, kind: str, problems: list[GradedProblem]) -> bool:
    """Whether the model's context has room for the problems and their answers; says where it has not."""
    from megatron_mimo.data.tokens.tokenizer import load_tokenizer
    from megatron_mimo.serve.speculative import read_model_config

    context, tokenizer = read_model_config(model)["max_position_embeddings"], load_tokenizer(model)
    needed = max((len(tokenizer.encode(problem.prompt).ids) for problem in problems), default=0) + ANSWER_TOKENS[kind]
    if problems and needed > context:
        print(f"{kind} is not measured: its problems need {needed} tokens, the model has {context}", flush=True)
    return bool(problems) and needed <= context


def solved(model: Path, problems: Mapping[str, list[GradedProblem]]) -> dict[str, dict[str, float]]:
    """Outcome -> problem -> 1 or 0, by greedy decoding in vLLM; and what was accepted of the drafts."""
    from megatron_mimo.serve.vllm_engine import PromptGroup, generate

    groups = [PromptGroup(kind, [p.prompt for p in asked], ANSWER_TOKENS[kind]) for kind, asked in problems.items()]
    answers = generate(model, groups)
    found: dict[str, dict[str, float]] = {}
    for kind, generation in answers.items():
        for problem, text in zip(problems[kind], generation.texts, strict=True):
            right = extract_answer(text) == problem.answer
            found.setdefault(problem.outcome, {})[problem.name] = float(right)
            if kind == "graded":
                found.setdefault("solved/all", {})[problem.name] = float(right)
    return found | accepted(answers.get("graded"))


def accepted(generation: Any) -> dict[str, dict[str, float]]:
    """`accepted/N` of one group."""
    if generation is None or not generation.draft_rounds:
        return {}
    shares = [count / generation.draft_rounds for count in generation.accepted_by_position]
    return {f"accepted/{place}": {"all": share} for place, share in enumerate(shares, 1)}


def first_of_levels(problems: list[GradedProblem]) -> list[GradedProblem]:
    """The first PER_LEVEL problems of each level."""
    levels: dict[str, list[GradedProblem]] = {}
    for problem in problems:
        levels.setdefault(problem.outcome, []).append(problem)
    return [problem for asked in levels.values() for problem in asked[:PER_LEVEL]]


def pass_at(model: Path, problems: list[GradedProblem], num_samples: int) -> dict[str, dict[str, float]]:
    """`pass@1`, `pass@K` and their difference, problem by problem, from `num_samples` = K answers to each."""
    from megatron_mimo.eval.estimators import pass_at_k
    from megatron_mimo.serve.vllm_engine import PromptGroup, generate

    prompts = [problem.prompt for problem in problems for _ in range(num_samples)]
    group = PromptGroup("sampled", [*prompts], ANSWER_TOKENS["graded"], temperature=1.0)
    texts = generate(model, [group], num_drafts=0)["sampled"].texts
    found: dict[str, dict[str, float]] = {"pass@1": {}, f"pass@{num_samples}": {}, f"pass@{num_samples} - pass@1": {}}
    for place, problem in enumerate(problems):
        answers = texts[place * num_samples : (place + 1) * num_samples]
        right = sum(extract_answer(text) == problem.answer for text in answers)
        one, most = pass_at_k(num_samples, right, 1), pass_at_k(num_samples, right, num_samples)
        for outcome, value in zip(found, (one, most, most - one), strict=True):
            found[outcome][problem.name] = value
    return found
