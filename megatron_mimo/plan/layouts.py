"""Time and memory of a training stage in a parallel layout.

Time of a step, on the slowest pipeline rank:

    (M + (P - 1) / V) x (compute + exposed tensor and context parallel of one micro-batch) + exposed pipeline and data

with M micro-batches, P pipeline ranks, V chunks per rank (Narayanan et al., arXiv:2104.04473, section 2.2). Compute is
FLOPs over `efficiency` times the peak rate of the number format each product runs in: `efficiency` is the MFU of a
layout with nothing exposed, no bubble and no recomputation. The batch ramp and optimizer arithmetic are left out.
"""

from dataclasses import dataclass

from megatron_mimo.config import ConfigError, ParallelConfig, PretrainConfig
from megatron_mimo.plan import flops
from megatron_mimo.plan.communication import (
    Traffic,
    context_parallel_traffic,
    data_parallel_traffic,
    pipeline_traffic,
    tensor_parallel_traffic,
)
from megatron_mimo.plan.hardware import FP8_EFFICIENCY_RATIO, GPU
from megatron_mimo.plan.memory import MemoryEstimate, estimate_memory
from megatron_mimo.plan.workload import Variant, Workload

SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Seconds a pipeline rank computes for one micro-batch, forward and backward."""

    seconds: float
    recompute_seconds: float
    """The part of `seconds` that repeats forward work."""
    attention_seconds: float
    """The part of `seconds` in the attention core."""


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """One stage in one layout on one kind of GPU."""

    stage: str
    tokens: int
    work: Workload
    memory: list[MemoryEstimate]
    """By pipeline rank."""
    traffic: list[Traffic]
    """Of the slowest pipeline rank."""
    step_seconds: float
    lost: dict[str, float]
    """Shares of the step that are not the model's own computation, evenly spread: recomputation, bubble, ..."""
    mfu: float
    """Model FLOPs (causal attention counted half) over the bf16 peak."""

    @property
    def peak_memory(self) -> MemoryEstimate:
        return max(self.memory, key=lambda estimate: estimate.total)

    @property
    def tokens_per_second(self) -> float:
        return self.work.step_tokens / self.step_seconds

    @property
    def days(self) -> float:
        return self.tokens / self.tokens_per_second / SECONDS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages of a run, each in its layout."""

    stages: list[StageEstimate]

    @property
    def layouts(self) -> list[ParallelConfig]:
        """Those of the stages, in order, each once."""
        found: list[ParallelConfig] = []
        for stage in self.stages:
            if stage.work.parallel not in found:
                found.append(stage.work.parallel)
        return found

    @property
    def days(self) -> float:
        return sum(stage.days for stage in self.stages)

    @property
    def tokens_per_second(self) -> float:
        """Of the whole run: its tokens over its time."""
        return sum(stage.tokens for stage in self.stages) / (self.days * SECONDS_PER_DAY)

    def fits(self, gpu: GPU) -> bool:
        return all(stage.peak_memory.total <= gpu.usable_memory_bytes for stage in self.stages)


def compute_time(work: Workload, gpu: GPU, efficiency: float, pipeline_rank: int) -> Compute:
    """Compute of one micro-batch on a pipeline rank; linear layers run in FP8 where it is configured."""
    model, parallel = work.model, work.parallel
    last = work.is_last(pipeline_rank)
    mtp = model.mtp_depths if last else 0
    layers = work.layers_per_rank + mtp
    linear = layers * (flops.projection_flops(model) + flops.mlp_flops(model))
    attention = layers * flops.attention_core_flops(model, work.seq_length, causal_half=True)
    rest = (1 + mtp) * flops.head_flops(model) + mtp * flops.mtp_projection_flops(model) if last else 0.0
    linear_peak = gpu.bf16_tflops
    if work.fp8 and gpu.fp8_tflops is not None:
        linear_peak = gpu.fp8_tflops * FP8_EFFICIENCY_RATIO
    scale = work.rank_tokens / (parallel.tensor_model_parallel_size * efficiency * 1e12)
    core = attention * scale / gpu.bf16_tflops
    forward_layers = linear * scale / linear_peak + core
    repeated = (work.recomputed_layers + (mtp if work.recomputes_mtp else 0)) / layers
    again = core if parallel.recompute == "selective" else repeated * forward_layers
    model_seconds = flops.TRAINING_FACTOR * (forward_layers + rest * scale / gpu.bf16_tflops)
    core_again = core if parallel.recompute == "selective" else repeated * core
    return Compute(
        seconds=model_seconds + again,
        recompute_seconds=again,
        attention_seconds=flops.TRAINING_FACTOR * core + core_again,
    )


def estimate_stage(stage: str, tokens: int, work: Workload, gpu: GPU, efficiency: float) -> StageEstimate:
    """Memory of every pipeline rank, and the time of a step as the slowest of them sets it; `stage` is a name."""
    ranks = range(work.parallel.pipeline_model_parallel_size)
    compute = [compute_time(work, gpu, efficiency, rank) for rank in ranks]
    slowest = max(ranks, key=lambda rank: compute[rank].seconds)
    own, batches = compute[slowest], work.num_microbatches
    tensor = tensor_parallel_traffic(work, gpu, slowest)
    context = context_parallel_traffic(work, gpu, slowest, batches * own.attention_seconds)
    pipeline = pipeline_traffic(work, gpu)
    data = data_parallel_traffic(work, gpu, slowest, own.seconds)
    busy = batches * own.seconds + tensor.exposed_seconds + context.exposed_seconds
    bubble = (len(ranks) - 1) / (work.chunks_per_rank * batches)
    step = busy * (1 + bubble) + pipeline.exposed_seconds + data.exposed_seconds
    even = sum(part.seconds - part.recompute_seconds for part in compute) / len(ranks)
    imbalance = own.seconds - own.recompute_seconds - even
    lost = {
        "recomputation": batches * own.recompute_seconds / step,
        "pipeline bubble": busy * bubble / step,
        "pipeline imbalance": batches * imbalance / step,
    } | {traffic.kind: traffic.exposed_seconds / step for traffic in (tensor, context, pipeline, data)}
    model_flops = flops.training_flops_per_token(work.model, work.seq_length).total * work.step_tokens
    return StageEstimate(
        stage=stage,
        tokens=tokens,
        work=work,
        memory=[estimate_memory(work, rank) for rank in ranks],
        traffic=[tensor, context, pipeline, data],
        step_seconds=step,
        lost=lost,
        mfu=model_flops / (step * work.world_size * gpu.bf16_tflops * 1e12),
    )


def estimate_run(
    config: PretrainConfig, world_size: int, gpu: GPU, efficiency: float, variant: Variant | None = None
) -> Plan:
    """The run as configured. Raises ConfigError where its layout or batches do not divide over `world_size` GPUs."""
    check_request(config, world_size, gpu, efficiency)
    works = [Workload.of(config, stage, world_size, variant) for stage in config.stages]
    stages = [
        estimate_stage(stage.name, stage.length, work, gpu, efficiency)
        for stage, work in zip(config.stages, works, strict=True)
    ]
    return Plan(stages=stages)


def check_request(config: PretrainConfig, world_size: int, gpu: GPU, efficiency: float) -> None:
    """Raise ConfigError for a number of GPUs, an efficiency or a number format that cannot be planned for."""
    if world_size < 1:
        raise ConfigError("--gpus", world_size, "must be at least 1")
    if not 0 < efficiency <= 1:
        raise ConfigError("--mfu", efficiency, "is a share of the peak rate: choose a number between 0 and 1")
    if config.precision.fp8_recipe != "none" and gpu.fp8_tflops is None:
        raise ConfigError("precision.fp8_recipe", config.precision.fp8_recipe, f"{gpu.name} has no FP8: set it to none")
