"""AdamW on megatron-core's distributed optimizer, states in fp32."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.optimizer import MegatronOptimizer, ParamKey, get_megatron_optimizer, get_standard_config_overrides
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.optimizer.optimizer_config import ParamWithNamePredicate

from megatron_mimo.config import OptimizerConfig, PrecisionConfig
from megatron_mimo.model.gpt import MTPGPTModel
from megatron_mimo.model.precision import DTYPES
from megatron_mimo.training.optimizer_shards import ResumableDistributedOptimizer, ShardwiseOptimizer

APART = "is_decoupled_lr"
"""megatron-core's mark of parameter groups with a learning rate of their own; checkpoints tell groups apart by it."""


def wrap_data_parallel(
    chunks: list[MTPGPTModel], overlap: bool | None = None, precision: PrecisionConfig | None = None
) -> list[DistributedDataParallel]:
    """Data-parallel wrappers with gradient buffers in `precision.gradient_dtype`, fp32 by default.

    `overlap`: communicate during compute; None does so where there is a GPU. It needs a gradient of every trainable
    parameter in every step, and leaves new parameters unsent until the next forward pass or `gather_parameters`.
    """
    overlap = torch.cuda.is_available() if overlap is None else overlap
    precision = precision or PrecisionConfig()
    config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=precision.gradient_dtype == "fp32",
        fp8_param_gather=precision.fp8_parameters,
        use_distributed_optimizer=True,
        overlap_grad_reduce=overlap,
        overlap_param_gather=overlap,
        # All pipeline stages gather a chunk's parameters at once: see `synchronize_once_per_step`.
        align_param_gather=overlap and len(chunks) > 1,
        average_in_collective=False,
    )
    return [
        DistributedDataParallel(chunk.config, config, chunk, disable_bucketing=index > 0)
        for index, chunk in enumerate(chunks)
    ]


def synchronize_once_per_step(chunks: list[DistributedDataParallel]) -> None:
    """Give megatron-core's schedules what they call around a step's last micro-batch, and its first.

    Without it an overlapped reduction starts after as many micro-batches as the FIRST step had, whatever this step has.
    As in Megatron-LM's training loop: https://github.com/NVIDIA/Megatron-LM/blob/core_r0.16.0/megatron/training/training.py
    """
    config: Any = chunks[0].module.config
    options = chunks[0].ddp_config
    if options.overlap_grad_reduce:
        config.no_sync_func = _one_or_all([chunk.no_sync for chunk in chunks])
        config.grad_sync_func = _one_or_all([chunk.start_grad_sync for chunk in chunks])
    if options.overlap_param_gather and options.align_param_gather:
        config.param_sync_func = _one_or_all([chunk.start_param_sync for chunk in chunks])


def gather_parameters(chunks: list[DistributedDataParallel]) -> None:
    """Make every rank's parameters those of the last update, for whoever reads them outside a training step.

    An overlapped gather waits for the next forward pass: until then all but a rank's own share is one update old.
    Every rank calls it.
    """
    for chunk in chunks:
        if chunk.ddp_config.overlap_param_gather:
            chunk.start_param_sync(force_sync=True)


def _one_or_all(functions: list[Any]) -> Any:
    """The form that the schedules want: a list for the interleaved one alone."""
    return functions if len(functions) > 1 else functions[0]


def build_optimizer(
    chunks: list[DistributedDataParallel], config: OptimizerConfig, precision: PrecisionConfig, apart: str | None = None
) -> MegatronOptimizer:
    """AdamW with decoupled weight decay (none on norms and biases); the learning rate is set at every step.

    Trainable parameters whose names begin with `apart` form groups of their own: learning rate, gradient norm and
    clipping of the others know nothing of them.
    """
    megatron_chunks: list[Any] = [*chunks]
    settings = MegatronOptimizerConfig(
        optimizer="adam",
        lr=0.0,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        adam_eps=config.adam_eps,
        clip_grad=config.clip_grad,
        bf16=precision.dtype == "bf16",
        params_dtype=DTYPES[precision.dtype],
        use_distributed_optimizer=True,
        # How weights that are kept in FP8 are made of their fp32 copies.
        fp8_recipe=precision.fp8_recipe if precision.fp8_parameters else None,
    )
    overrides: dict[ParamKey, Any] = get_standard_config_overrides(settings)
    if apart is not None:
        wanted = f"module.{apart}"  # the data-parallel wrapper's name for it
        named = ParamWithNamePredicate(name="apart", fn=lambda parameter, name: name.startswith(wanted))
        overrides[ParamKey(with_name_predicate=named)] = {APART: True}
    optimizer = get_megatron_optimizer(settings, megatron_chunks, overrides)
    for group in optimizer.param_groups:
        # megatron-core leaves this to its own learning-rate scheduler.
        group["weight_decay"] = config.weight_decay * group["wd_mult"]
    for part in distributed_parts(optimizer):
        part.__class__ = ShardwiseOptimizer
        if isinstance(part.optimizer, torch.optim.AdamW):
            part.__class__ = ResumableDistributedOptimizer
            _prepare_torch_adamw(part.optimizer)
    return optimizer


def _prepare_torch_adamw(adamw: torch.optim.AdamW) -> None:
    """One fused kernel a group, and states that exist before the first step: loading and saving both need them."""
    for group in adamw.param_groups:
        group["fused"] = True
        for parameter in group["params"]:
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def load_optimizer(optimizer: MegatronOptimizer, state: dict[str, Any]) -> None:
    """Take moments, fp32 copies and step counts of a checkpoint; every setting stays as configured.

    A checkpoint's parameter groups bring the settings of the optimizer that wrote them: other betas than the
    configuration's, and names that another class does not know (torch's AdamW has no `bias_correction`, which
    Transformer Engine's FusedAdam needs).
    """
    configured = [_settings(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, configured, strict=True):
        for foreign in _settings(group).keys() - settings.keys():
            del group[foreign]
        group.update(settings)
        if "step" in group:
            # torch counts in floats, Transformer Engine's kernel takes a whole number.
            group["step"] = int(group["step"])


def requantize(chunks: list[DistributedDataParallel], optimizer: MegatronOptimizer) -> None:
    """Make weights that are kept in FP8 of their fp32 copies, as an update does; every rank calls it after a load.

    A checkpoint holds what they stood for: rounded a second time they would not be those of the run that saved.
    """
    if not any(chunk.ddp_config.fp8_param_gather for chunk in chunks):
        return
    for part in distributed_parts(optimizer):
        part._copy_main_params_to_model_params()
    for chunk in chunks:
        chunk.start_param_sync(force_sync=True)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "step")}


def distributed_parts(optimizer: MegatronOptimizer) -> list[DistributedOptimizer]:
    """The distributed optimizers inside megatron-core's chained optimizer."""
    parts: list[Any] = getattr(optimizer, "chained_optimizers", [optimizer])
    return parts


def set_learning_rate(optimizer: MegatronOptimizer, learning_rate: float, apart: float | None = None) -> None:
    """Set the learning rate of every parameter group; of those apart, perhaps, another."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate if apart is None or not group[APART] else apart


def gradient_norm(optimizer: MegatronOptimizer) -> float:
    """Norm of the whole model's reduced gradient, the same on every rank; call once, before `apply_update`."""
    optimizer.prepare_grads()
    return float(optimizer.get_grad_norm())


def gradient_norms(optimizer: MegatronOptimizer) -> tuple[float, float]:
    """The same of the parameters that are not apart, and of those that are (see `build_optimizer`)."""
    optimizer.prepare_grads()
    norms = []
    for apart in (False, True):
        with _without_gradients(optimizer, apart=not apart):
            norms.append(float(optimizer.get_grad_norm()))
    return norms[0], norms[1]


@contextmanager
def _without_gradients(optimizer: MegatronOptimizer, apart: bool) -> Iterator[None]:
    """The optimizer as if some groups' parameters had no gradient."""
    groups = [group for group in _groups(optimizer) if group[APART] == apart]
    hidden = [(parameter, parameter.grad) for group in groups for parameter in group["params"]]
    for parameter, _ in hidden:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, grad in hidden:
            parameter.grad = grad


def apply_update(
    optimizer: MegatronOptimizer, grad_norm: float, clip_grad: float, norm_apart: float | None = None
) -> None:
    """Scale the gradient down to `clip_grad`, or not at all with 0, and step.

    `norm_apart`: of the groups apart, which are scaled by themselves, and whose gradient counts as zero where this norm
    is not finite; None scales all by `grad_norm`.
    """
    for group in _groups(optimizer):
        norm = grad_norm if norm_apart is None or not group[APART] else norm_apart
        if norm_apart is not None and group[APART] and not math.isfinite(norm_apart):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.zero_()
        elif group["params"] and clip_grad > 0:
            clip_grad_by_total_norm_fp32(group["params"], clip_grad, norm)
    optimizer.step_with_ready_grads()


def _groups(optimizer: MegatronOptimizer) -> list[dict[str, Any]]:
    """Parameter groups as the optimizers inside hold them: this rank's shards in fp32. A rank may have none."""
    return [group for part in distributed_parts(optimizer) for group in getattr(part.optimizer, "param_groups", [])]
