"""Clock, memory and FLOP/s of a step, put together as StepMetrics."""

import time

import psutil
import torch
import torch.distributed as dist

from megatron_mimo.config import TrainingConfig
from megatron_mimo.plan.flops import training_flops_per_token
from megatron_mimo.training.metrics import StepMetrics
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.state import Progress
from megatron_mimo.training.step import LossReport


class StepTimer:
    """Seconds since it was made, and the part of them spent waiting for data."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.data_seconds = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


def memory_bytes() -> int:
    """Peak bytes allocated on this rank's GPU, or the process's resident bytes on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def step_metrics(
    config: TrainingConfig,
    schedule: Schedule,
    source_names: list[str],
    before: Progress,
    after: Progress,
    report: LossReport,
    grad_norm: float,
    timer: StepTimer,
) -> StepMetrics:
    """Numbers of the step from `before` to `after`. FLOPs count the causal half of attention, MTP included."""
    stage = config.stages[before.stage]
    seconds = timer.seconds
    tokens_per_second = (after.consumed_tokens - before.consumed_tokens) / seconds
    flops = training_flops_per_token(config.model, stage.seq_length).total
    tflops = tokens_per_second * flops / dist.get_world_size() / 1e12
    peak = config.logging.peak_tflops_per_gpu
    main, *mtp = report.by_depth
    return StepMetrics(
        step=after.step,
        consumed_tokens=after.consumed_tokens,
        stage=stage.name,
        loss=main,
        mtp_losses=mtp,
        grad_norm=grad_norm,
        learning_rate=schedule.learning_rate(before.consumed_tokens),
        global_batch_size=schedule.global_batch_size(before.consumed_tokens),
        seq_length=stage.seq_length,
        rotary_base=stage.rotary_base,
        mtp_loss_scaling_factor=schedule.mtp_loss_scaling_factor(before.consumed_tokens),
        step_seconds=seconds,
        tokens_per_second=tokens_per_second,
        tflops_per_gpu=tflops,
        mfu=tflops / peak if peak else None,
        memory_bytes=memory_bytes(),
        skipped=False,
        source_losses=report.by_source(source_names),
        source_tokens=report.tokens_by_source(source_names),
    )
