"""What the trainer runs, whatever it learns from: pre-training and fine-tuning each make one of these."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from megatron_mimo.config.data import DataConfig, EvaluationConfig
from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.parallel import ParallelConfig
from megatron_mimo.config.run import LoRAConfig, RunConfig, StartConfig
from megatron_mimo.config.stages import MTPLossWeight, SkippedData, StageConfig, check_recipe


@dataclass(kw_only=True)
class LoopConfig(RunConfig):
    """What people set of the loop around the training step, in pre-training as in fine-tuning."""

    lora: LoRAConfig | None = None
    """Train only low-rank updates of the linear layers; null trains every weight."""
    mtp_step_decay: float = 1.0
    """Weights of the MTP losses by depth: decay^(k-1), normalised. FastMTP: 0.6 over the steps of its recursive layer;
    1 weighs all alike."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    max_steps: int | None = None
    """Stop after this many steps, before the stages end; null runs them to the end."""
    stop_after_seconds: float | None = None
    """Save and stop after the step during which the run reaches this age, as on a scheduler's request: with
    guard.requeue_exit_code and the file REQUEUE. A time limit, less what a step and a save take; null sets none."""
    collect_garbage_every_steps: int = 100
    """Python's garbage collector runs after every so many steps, on all ranks at once. By itself it runs whenever one
    rank has made enough objects, for which all others wait; 0 leaves it to itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mtp_step_decay <= 1:
            raise ConfigError("mtp_step_decay", self.mtp_step_decay, "must be above 0 and at most 1")
        self._check_recursive_mtp()
        require_at_least(1, "run", max_steps=self.max_steps)
        require_at_least(0, "run", collect_garbage_every_steps=self.collect_garbage_every_steps)
        if self.stop_after_seconds is not None and self.stop_after_seconds <= 0:
            raise ConfigError("stop_after_seconds", self.stop_after_seconds, "must be above 0, or null for no limit")
        scores, hang = self.evaluation.scores, self.guard.hang_timeout_seconds
        if scores and 0 < hang <= scores.timeout_seconds:
            raise ConfigError(
                "evaluation.scores.timeout_seconds",
                scores.timeout_seconds,
                f"must stay below guard.hang_timeout_seconds ({hang:g}), or the watchdog takes the wait for a hang",
            )

    def loop_settings(self) -> dict[str, Any]:
        """The values of only these fields, to make another kind of run of."""
        return {shared.name: getattr(self, shared.name) for shared in dataclasses.fields(LoopConfig)}

    def check_world_size(self, world_size: int) -> None:
        """Raise ConfigError where the run's batches do not fit on `world_size` ranks."""
        raise NotImplementedError

    def layout(self, stage: StageConfig) -> ParallelConfig:
        """How the model is cut in a stage."""
        return stage.parallel or self.parallel

    def layouts(self) -> Sequence[ParallelConfig]:
        """How the model is cut in the course of the run."""
        return [self.parallel]

    def check_start(self, start: StartConfig | None) -> None:
        """Raise ConfigError where what is trained of the weights of `start` is impossible in this layout."""
        if self.lora and (start is None or start.train != "all"):
            raise ConfigError("lora", self.lora, "updates trained weights: set start.checkpoint, with start.train=all")
        if self.lora and set(self.lora.targets) == {"eh_proj"}:
            if not self.model.mtp_num_layers or self._pipeline_size() > 1:
                way_out = "eh_proj is only in the MTP layers of the last stage: name further layers"
                raise ConfigError("lora.targets", self.lora.targets, way_out)
        if start and start.train != "all" and self._pipeline_size() > 1:
            raise ConfigError(
                "parallel.pipeline_model_parallel_size",
                self._pipeline_size(),
                f"start.train={start.train} trains only layers of the last stage: set it to 1, cut by TP or CP",
            )

    def check_stage(self, stage: StageConfig, world_size: int) -> None:
        """Raise ConfigError where the batches of `stage`, which may be a variant, do not fit on `world_size` ranks."""
        parallel = self.layout(stage)
        data_parallel_size = parallel.data_parallel_size(world_size)
        stage.check_against(data_parallel_size, parallel.tensor_model_parallel_size, parallel.context_parallel_size)
        if parallel.virtual_pipeline_model_parallel_size is not None:
            self._check_interleaved(stage, data_parallel_size * parallel.pipeline_model_parallel_size)

    def _check_interleaved(self, stage: StageConfig, copies: int) -> None:
        """The interleaved schedule takes micro-batches in groups of the pipeline's size; `copies`: DP x PP."""
        group = stage.micro_batch_size * copies
        for size in stage.batch_sizes():
            if size % group:
                raise ConfigError(
                    f"stage {stage.name}: global_batch_size" + (" (inside batch_ramp)" if stage.batch_ramp else ""),
                    size,
                    "with parallel.virtual_pipeline_model_parallel_size it must be a multiple of micro_batch_size x"
                    f" data-parallel size x pipeline_model_parallel_size = {group}",
                )

    def _check_recursive_mtp(self) -> None:
        """What the draft steps of a recursive MTP layer are not trained with."""
        if self.model.mtp_recursive_steps == 1:
            return
        for parallel in (self.parallel, *self.layouts()):
            for name, usual in (("context_parallel_size", 1), ("sequence_parallel", False), ("recompute", "none")):
                value = getattr(parallel, name)
                if value != usual:
                    way_out = f"draft steps of a recursive MTP layer are not trained with it: set it to {usual}"
                    raise ConfigError(f"parallel.{name}", value, way_out)

    def _pipeline_size(self) -> int:
        """The largest of all layouts."""
        return max(parallel.pipeline_model_parallel_size for parallel in self.layouts())


@dataclass(kw_only=True)
class TrainingConfig(LoopConfig):
    """One run of the trainer."""

    start: StartConfig | None = None
    """Another run's weights to start from; null starts from random ones."""
    stages: list[StageConfig]
    mtp_loss: list[MTPLossWeight] = field(default_factory=lambda: [MTPLossWeight(mtp_loss_scaling_factor=0.3)])
    data: DataConfig
    skip_data: list[SkippedData] = field(default_factory=list)
    """Pieces of the stages' data to leave out. To skip what a loss spike came from, continue from a checkpoint before
    it (`megatron-mimo checkpoints RUN --branch-from STEP NEW`)."""

    def __post_init__(self) -> None:
        check_recipe(self.stages, self.mtp_loss)
        super().__post_init__()
        for parallel in self.layouts():
            parallel.check_against(self.model)
        self.check_start(self.start)
        for skipped in self.skip_data:
            if skipped.after_tokens >= self.total_tokens:
                way_out = f"the stages end after {self.total_tokens} tokens: name a place before, or leave it out"
                raise ConfigError("skip_data.after_tokens", skipped.after_tokens, way_out)

    def layouts(self) -> Sequence[ParallelConfig]:
        """Of each stage."""
        return [self.layout(stage) for stage in self.stages]

    def cut_for(self, stage: StageConfig) -> Self:
        """The run as it is while it trains `stage`: `parallel` is that stage's, and every stage names its own."""
        if all(one.parallel is None for one in self.stages):
            return self
        stages = [replace(one, parallel=self.layout(one)) for one in self.stages]
        return replace(self, parallel=self.layout(stage), stages=stages)

    @property
    def total_tokens(self) -> int:
        """Tokens of all stages together."""
        return sum(stage.length for stage in self.stages)

    def check_world_size(self, world_size: int) -> None:
        """Raise ConfigError where the stages' batches do not fit on `world_size` ranks."""
        for stage in self.stages:
            self.check_stage(stage, world_size)
