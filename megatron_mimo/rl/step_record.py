"""What is written down of every step: a line of `metrics.jsonl`, and the scalars of TensorBoard."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Outcome, Sample, SampleGroup
from megatron_mimo.rl.scheduler.idle_time import idle_ratio
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch


@dataclass(kw_only=True)
class DomainResult:
    """The complete groups of one domain (a problem's source: data set and difficulty)."""

    groups: int
    reward: float
    """Mean over samples."""
    solved: float
    """Share of samples with accuracy 1."""


@dataclass(kw_only=True)
class StepRecord:
    """A step, counted from 1. Rewards and lengths are of every complete group of the data, kept or not, so that they
    compare from step to step; draws of the easy-data pool are left out of them."""

    step: int
    rollout_seconds: float
    train_seconds: float
    weights_seconds: float
    reward: float
    solved: float
    domains: dict[str, DomainResult]
    response_tokens: float
    longest_response_tokens: int
    truncated_ratio: float
    selected_tokens: float
    """Mean length of the batch's responses."""
    outcomes: dict[str, int]
    """Groups by how they ended."""
    survival_ratio: float
    waste_ratio: float
    idle_ratio: float
    max_new_tokens: int
    pool_size: int
    easy_draw_ratio: float
    """Of the draws that had a pool to draw from, since the start."""
    epoch: int
    generated_tokens: int
    engines: dict[str, dict[str, Any]]
    """By name: state, speed, time-outs, deaths and restarts since the start of the run."""
    verifier: dict[str, int]
    """Answers to mathematics since the start of the run by what the verifier said; faults are no zeros."""
    drafted_tokens: int = 0
    """By the MTP layers in this step's rollout."""
    accepted_drafts: int = 0
    draft_acceptance: float = 0.0
    """Their ratio; 0 where nothing was drafted."""
    trainer: dict[str, float]
    """The trainer's own metrics: loss, gradient norm, ratios, entropy, engine-trainer gap."""


@dataclass(kw_only=True)
class ValidationRecord:
    """pass@1 over the held-out problems after a step (0: before the first), the mean of `samples` a problem."""

    step: int
    seconds: float
    samples: int
    solved: float
    """Mean over problems."""
    low: float
    high: float
    domains: dict[str, DomainResult]
    response_tokens: float
    truncated_ratio: float
    faulted_groups: int
    """Left out: engine or reward failed."""
    problems: dict[str, dict[str, float]]
    """Domain -> problem -> share of its samples that solve it; in a file of its own."""


@dataclass
class Timings:
    """Seconds of a step's parts."""

    train: float = 0.0
    weights: float = 0.0


def step_record(
    step: int,
    batch: RolloutBatch,
    prompts: PromptSampler,
    timings: Timings,
    trainer: dict[str, float],
    *,
    num_engines: int,
    max_new_tokens: int,
    verifier: Mapping[str, int] | None = None,
    drafts: tuple[int, int] = (0, 0),
) -> StepRecord:
    """The record of a finished step. drafts: tokens that were drafted and accepted in its rollout."""
    fresh = [group for group in batch.groups if group.complete and group.origin == "data"]
    samples = [sample for group in fresh for sample in group.finished]
    selected = [sample for group in batch.selected for sample in group.finished]
    counts = prompts.counts
    return StepRecord(
        step=step,
        rollout_seconds=batch.seconds,
        train_seconds=timings.train,
        weights_seconds=timings.weights,
        reward=mean(sample.reward or 0.0 for sample in samples),
        solved=mean(bool(sample.solved) for sample in samples),
        domains=domain_results(fresh),
        response_tokens=mean(len(sample.tokens) for sample in samples),
        longest_response_tokens=max((len(sample.tokens) for sample in samples), default=0),
        truncated_ratio=truncated_ratio(samples),
        selected_tokens=mean(len(sample.tokens) for sample in selected),
        outcomes={str(outcome): batch.outcomes.get(outcome, 0) for outcome in Outcome},
        survival_ratio=batch.survival,
        waste_ratio=batch.waste_ratio,
        idle_ratio=idle_ratio(batch.spans, num_engines, batch.seconds),
        max_new_tokens=max_new_tokens,
        pool_size=prompts.pool_size,
        easy_draw_ratio=counts.easy / counts.with_pool if counts.with_pool else 0.0,
        epoch=prompts.epoch,
        generated_tokens=sum(len(sample.tokens) for group in batch.groups for sample in group.finished),
        verifier=dict(verifier or {}),
        engines={one.name: asdict(one) for one in batch.engines},
        drafted_tokens=drafts[0],
        accepted_drafts=drafts[1],
        draft_acceptance=drafts[1] / drafts[0] if drafts[0] else 0.0,
        trainer=trainer,
    )


def domain_results(groups: Iterable[SampleGroup]) -> dict[str, DomainResult]:
    """By domain, in alphabetical order; the groups are complete."""
    by_domain: dict[str, list[SampleGroup]] = defaultdict(list)
    for group in groups:
        by_domain[group.prompt.domain].append(group)
    return {
        domain: DomainResult(
            groups=len(members),
            reward=mean(reward for group in members for reward in group.rewards),
            solved=mean(group.pass_rate for group in members),
        )
        for domain, members in sorted(by_domain.items())
    }


def truncated_ratio(samples: Sequence[Sample]) -> float:
    return mean(sample.finish_reason == "length" for sample in samples)


def mean(values: Iterable[float]) -> float:
    """0 for no values: nothing was measured, and JSON has no NaN."""
    numbers = [float(value) for value in values]
    return fmean(numbers) if numbers else 0.0


def problem_results(groups: Iterable[SampleGroup]) -> dict[str, dict[str, float]]:
    """Domain -> problem -> share of its samples that solve it; the groups are complete."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for group in groups:
        found[group.prompt.domain][group.prompt.id] = group.pass_rate
    return dict(found)


def row(record: StepRecord | ValidationRecord) -> dict[str, Any]:
    """The record's line of `metrics.jsonl`: all but single problems."""
    return {name: value for name, value in asdict(record).items() if name != "problems"}


def scalars(record: StepRecord | ValidationRecord) -> dict[str, float]:
    """Tag -> value for TensorBoard: every number of the record's line."""
    prefix = "validation" if isinstance(record, ValidationRecord) else "rollout"
    return {
        (name if name.startswith("trainer/") else f"{prefix}/{name}"): value
        for name, value in flatten(row(record))
        if name != "step"
    }


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers of a tree of dicts with their path, joined by slashes."""
    found: list[tuple[str, float]] = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found
