"""The numbers of a run as tag -> value, which TensorBoard and every other tracker draw."""

from megatron_mimo.training.metrics import EvaluationMetrics, ScoreMetrics, StepMetrics


def step_scalars(metrics: StepMetrics) -> dict[str, float]:
    """Losses, schedules, gradient norm and speed of a step."""
    scalars = {
        "loss/main": metrics.loss,
        **{f"loss/mtp_{depth}": loss for depth, loss in enumerate(metrics.mtp_losses, start=1)},
        **{f"source_loss/{source}": loss for source, loss in metrics.source_losses.items()},
        "schedule/learning_rate": metrics.learning_rate,
        "schedule/global_batch_size": metrics.global_batch_size,
        "schedule/seq_length": metrics.seq_length,
        "schedule/rotary_base": metrics.rotary_base,
        "schedule/mtp_loss_scaling_factor": metrics.mtp_loss_scaling_factor,
        "train/grad_norm": metrics.grad_norm,
        "train/skipped": float(metrics.skipped),
        "speed/tokens_per_second": metrics.tokens_per_second,
        "speed/tflops_per_gpu": metrics.tflops_per_gpu,
        "speed/step_seconds": metrics.step_seconds,
        "speed/memory_gib": metrics.memory_bytes / 2**30,
    }
    return scalars if metrics.mfu is None else scalars | {"speed/mfu": metrics.mfu}


def evaluation_scalars(metrics: EvaluationMetrics) -> dict[str, float]:
    """Held-out losses by source, of the main model and of each MTP depth."""
    scalars = {f"evaluation/{source}": loss for source, loss in metrics.losses.items()}
    for source, losses in metrics.mtp_losses.items():
        scalars |= {f"evaluation_mtp_{depth}/{source}": loss for depth, loss in enumerate(losses, start=1)}
    return scalars


def score_scalars(metrics: ScoreMetrics) -> dict[str, float]:
    """Scores of benchmarks by task; what has no answers is left out."""
    return {
        f"scores_{key}/{task}": value
        for task, found in metrics.tasks.items()
        for key in ("score", "in_format", "mean_tokens")
        if (value := found[key]) is not None
    }
