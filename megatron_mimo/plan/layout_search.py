"""Search for the parallel layouts of a run that fit on a GPU and finish first, by trying every one."""

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from megatron_mimo.config import ConfigError, ParallelConfig, PretrainConfig, StageConfig
from megatron_mimo.plan.hardware import GPU
from megatron_mimo.plan.layouts import Plan, StageEstimate, check_request, estimate_stage
from megatron_mimo.plan.workload import Variant, Workload

TENSOR_SIZES = (1, 2, 4, 8)
"""Tensor parallelism stays on the links of one node."""
PIPELINE_SIZES = (1, 2, 3, 4, 6, 8)
CHUNKS = (None, 2, 3, 4)
CONTEXT_SIZES = (1, 2, 4, 8)
RECOMPUTE_CHOICES = ("none", "selective", "full")
MICRO_BATCH_SIZES = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best layouts, fastest first, and why the others were left out."""

    plans: list[Plan]
    rejected: list["Rejection"]


@dataclass(kw_only=True)
class Rejection:
    """Layouts left out for one reason, most frequent first in a result."""

    reason: str
    example: str
    """The message for the first of them."""
    layouts: int = 0


def search_layouts(
    config: PretrainConfig, world_size: int, gpu: GPU, efficiency: float, count: int = 5, variant: Variant | None = None
) -> SearchResult:
    """The `count` fastest layouts of the whole run, each with its best recomputation and micro-batch sizes.

    One layout serves all stages; micro-batch sizes, and how many layers are recomputed, are chosen stage by stage.
    Raises ConfigError for a request that no layout can serve, such as an unknown number format of the GPU.
    """
    check_request(config, world_size, gpu, efficiency)
    best: dict[tuple[int, ...], Plan] = {}
    rejected: dict[str, Rejection] = {}
    for parallel in candidates(world_size, config.parallel.overlap_tensor_parallel):
        try:
            stages = [replace(stage, parallel=parallel) for stage in config.stages]
            plan = _fastest_that_fits(replace(config, stages=stages), world_size, gpu, efficiency, variant)
        except ConfigError as error:
            rejected.setdefault(error.key, Rejection(reason=error.key, example=str(error))).layouts += 1
            continue
        key = (*sizes(parallel), parallel.virtual_pipeline_model_parallel_size or 1)
        if key not in best or plan.days < best[key].days:
            best[key] = plan
    plans = sorted(best.values(), key=lambda plan: plan.days)
    reasons = sorted(rejected.values(), key=lambda rejection: -rejection.layouts)
    return SearchResult(plans=plans[:count], rejected=reasons)


def sizes(parallel: ParallelConfig) -> tuple[int, int, int]:
    """(TP, PP, CP)."""
    return (
        parallel.tensor_model_parallel_size,
        parallel.pipeline_model_parallel_size,
        parallel.context_parallel_size,
    )


def candidates(world_size: int, overlap_tensor_parallel: bool = False) -> Iterator[ParallelConfig]:
    """Every layout that divides `world_size` ranks; tensor parallelism always comes with sequence parallelism."""
    for t, p, chunks, c, recompute in itertools.product(
        TENSOR_SIZES, PIPELINE_SIZES, CHUNKS, CONTEXT_SIZES, RECOMPUTE_CHOICES
    ):
        if world_size % (t * p * c) or (chunks and p == 1):
            continue
        yield ParallelConfig(
            tensor_model_parallel_size=t,
            pipeline_model_parallel_size=p,
            virtual_pipeline_model_parallel_size=chunks,
            context_parallel_size=c,
            sequence_parallel=t > 1,
            overlap_tensor_parallel=overlap_tensor_parallel and t > 1,
            recompute=recompute,
        )


def _fastest_that_fits(
    config: PretrainConfig, world_size: int, gpu: GPU, efficiency: float, variant: Variant | None
) -> Plan:
    stages = [_best_micro_batch(config, stage, world_size, gpu, efficiency, variant) for stage in config.stages]
    return Plan(stages=stages)


def _best_micro_batch(
    config: PretrainConfig,
    stage: StageConfig,
    world_size: int,
    gpu: GPU,
    efficiency: float,
    variant: Variant | None,
) -> StageEstimate:
    """The fastest micro-batch size that fits; raises ConfigError when none divides or none fits."""
    divides: list[StageEstimate] = []
    errors: list[ConfigError] = []
    for size in MICRO_BATCH_SIZES:
        try:
            resized = replace(stage, micro_batch_size=size)
            work = Workload.of(config, resized, world_size, variant)
            divides.append(estimate_stage(stage.name, stage.length, work, gpu, efficiency))
        except ConfigError as error:
            errors.append(error)
    if not divides:
        raise errors[0]
    usable = gpu.usable_memory_bytes
    fits = [estimate for estimate in divides if estimate.peak_memory.total <= usable]
    if not fits:
        need = min(estimate.peak_memory.total for estimate in divides) / 1e9
        raise ConfigError(
            f"stage {stage.name}: memory", f"{need:.1f} GB", f"{gpu.name} has {usable / 1e9:.1f} GB usable"
        )
    fits = [_least_recomputation(estimate, gpu, efficiency) for estimate in fits]
    return min(fits, key=lambda estimate: (estimate.step_seconds, estimate.peak_memory.total))


def _least_recomputation(estimate: StageEstimate, gpu: GPU, efficiency: float) -> StageEstimate:
    """Of full recomputation, that of the fewest layers with which the stage still fits: perhaps of none."""
    work = estimate.work
    if work.parallel.recompute != "full":
        return estimate

    def recomputing(count: int) -> StageEstimate:
        some: dict[str, Any] = {"recompute": "full", "recompute_num_layers": count}
        parallel = replace(work.parallel, **(some if count else {"recompute": "none"}))
        return estimate_stage(estimate.stage, estimate.tokens, replace(work, parallel=parallel), gpu, efficiency)

    def fits(count: int) -> bool:
        return recomputing(count).peak_memory.total <= gpu.usable_memory_bytes

    counts = range(work.layers_per_rank // work.chunks_per_rank + 1)
    least = bisect_left(counts, True, key=fits)
    return recomputing(least) if least < len(counts) else estimate
