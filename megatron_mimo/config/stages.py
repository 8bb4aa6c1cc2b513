"""The training recipe, counted in tokens: stages, learning-rate segments, batch ramp, MTP loss weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.parallel import ParallelConfig


@dataclass(kw_only=True)
class LearningRateSegment:
    """One piece of the learning-rate curve, `tokens` long, from `start` to `end` (report section 2.3)."""

    kind: Literal["linear", "constant", "cosine"]
    tokens: int
    start: float
    end: float

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError("learning_rate.tokens", self.tokens, "a segment needs at least one token")
        for name in ("start", "end"):
            if getattr(self, name) < 0:
                raise ConfigError(f"learning_rate.{name}", getattr(self, name), "must be 0 or more")
        if self.kind == "constant" and self.start != self.end:
            raise ConfigError(
                "learning_rate.end", self.end, f"a constant segment ends where it starts, at {self.start}"
            )


@dataclass(kw_only=True)
class BatchRamp:
    """Linear growth from `start` sequences to the stage's global batch over the stage's first `tokens` (report section
    2.3)."""

    start: int
    increment: int
    """Batch sizes are rounded down to a multiple of this, whatever the number of ranks."""
    tokens: int

    def __post_init__(self) -> None:
        if self.start < 1 or self.increment < 1 or self.start % self.increment:
            raise ConfigError("batch_ramp.start", self.start, f"must be a multiple of increment={self.increment}")
        if self.tokens < 1:
            raise ConfigError("batch_ramp.tokens", self.tokens, "the ramp needs at least one token")


@dataclass(kw_only=True)
class StageConfig:
    """One stage of a training run, at one sequence length and RoPE base (report section 2.3)."""

    name: str
    tokens: int
    seq_length: int
    rotary_base: int
    learning_rate: list[LearningRateSegment]
    global_batch_size: int
    """Sequences per step, over all ranks."""
    micro_batch_size: int = 1
    batch_ramp: BatchRamp | None = None
    parallel: ParallelConfig | None = None
    """How the model is cut in this stage; null cuts it as the run's `parallel` says. Where it changes, the run saves,
    lays out its ranks anew and continues from what it saved."""
    ended_after_tokens: int | None = None
    """Tokens after which the stage ended before its time, `tokens` having been lowered below what it had consumed by
    then. Entered by the program when it resumes, for its later starts."""

    def __post_init__(self) -> None:
        for key in ("seq_length", "global_batch_size", "micro_batch_size", "rotary_base"):
            if getattr(self, key) < 1:
                raise ConfigError(f"stage {self.name}: {key}", getattr(self, key), "must be at least 1")
        covered = sum(segment.tokens for segment in self.learning_rate)
        if covered != self.tokens:
            raise ConfigError(
                f"stage {self.name}: tokens",
                self.tokens,
                f"its learning_rate segments add up to {covered}; make both equal",
            )
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(
                f"stage {self.name}: global_batch_size",
                self.global_batch_size,
                f"must be a multiple of micro_batch_size={self.micro_batch_size}",
            )
        ramp = self.batch_ramp
        if ramp is not None and (ramp.start > self.global_batch_size or ramp.tokens > self.tokens):
            raise ConfigError(
                f"stage {self.name}: batch_ramp", ramp, "must start at or below global_batch_size and fit in the stage"
            )

    @property
    def length(self) -> int:
        """Tokens that the stage takes: as planned, or as it came."""
        return self.tokens if self.ended_after_tokens is None else self.ended_after_tokens

    def batch_sizes(self) -> list[int]:
        """Every global batch size that occurs in the stage."""
        ramp = self.batch_ramp
        growing = range(ramp.start, self.global_batch_size, ramp.increment) if ramp else []
        return [*growing, self.global_batch_size]

    def check_against(
        self, data_parallel_size: int, tensor_model_parallel_size: int, context_parallel_size: int
    ) -> None:
        """Raise ConfigError where a batch cannot be split over the ranks, or a sequence over TP and CP."""
        step = self.micro_batch_size * data_parallel_size
        sizes = {"global_batch_size": self.global_batch_size}
        if self.batch_ramp is not None:
            sizes |= {"batch_ramp.start": self.batch_ramp.start, "batch_ramp.increment": self.batch_ramp.increment}
        for key, size in sizes.items():
            if size % step:
                raise ConfigError(
                    f"stage {self.name}: {key}",
                    size,
                    f"must be a multiple of micro_batch_size x data-parallel size = {step}",
                )
        parts = tensor_model_parallel_size * context_parallel_size * (2 if context_parallel_size > 1 else 1)
        if self.seq_length % parts:
            raise ConfigError(
                f"stage {self.name}: seq_length", self.seq_length, f"must be divisible by {parts} (TP x 2 CP)"
            )


@dataclass(kw_only=True)
class PretrainStageConfig(StageConfig):
    """One pre-training stage: a data mixture at one sequence length and RoPE base (report section 2.3)."""

    mixture: str
    """Path of the stage's mixture file (weights by source, report section 2.1), relative to the configuration file."""


@dataclass(kw_only=True)
class MTPLossWeight:
    """Weight of the MTP loss until `until_tokens` consumed tokens of the whole run; null means to the end (report
    section 2.3)."""

    mtp_loss_scaling_factor: float
    until_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.mtp_loss_scaling_factor < 0:
            raise ConfigError("mtp_loss.mtp_loss_scaling_factor", self.mtp_loss_scaling_factor, "must be 0 or more")


@dataclass(kw_only=True)
class SkippedData:
    """Data that is left out, such as that of a loss spike: the run continues with what follows in the stage's order."""

    after_tokens: int
    """Consumed tokens of the whole run, as the log counts them, at which the data is left out."""
    tokens: int
    """Of data, in whole sequences. They are not consumed: the schedule continues, and the stage's length stays."""

    def __post_init__(self) -> None:
        if self.after_tokens < 0:
            raise ConfigError("skip_data.after_tokens", self.after_tokens, "must be 0 or more")
        require_at_least(1, "skip_data", tokens=self.tokens)


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW as in report section 2.3; the learning rate belongs to the stages."""

    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 0.1
    clip_grad: float = 1.0
    """Largest norm of the whole gradient; 0 clips nothing."""

    def __post_init__(self) -> None:
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name}", getattr(self, name), "must be in [0, 1)")
        if self.adam_eps <= 0:
            raise ConfigError("optimizer.adam_eps", self.adam_eps, "must be above 0")
        require_at_least(0, "optimizer", weight_decay=self.weight_decay, clip_grad=self.clip_grad)


def check_recipe(stages: Sequence[StageConfig], mtp_loss: list[MTPLossWeight]) -> None:
    """Raise ConfigError unless the stages have different names and the MTP weights follow each other."""
    if not stages:
        raise ConfigError("stages", [], "a run needs at least one stage")
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ConfigError("stages", names, "stage names must differ")
    bounds = [weight.until_tokens for weight in mtp_loss]
    inner = [bound for bound in bounds[:-1] if bound is not None]
    if not bounds or bounds[-1] is not None or len(inner) != len(bounds) - 1 or sorted(set(inner)) != inner:
        raise ConfigError("mtp_loss", bounds, "until_tokens must rise, and only the last may be null")
