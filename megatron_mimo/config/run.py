"""What every kind of run has, and everything around the training step: checkpoints, guards, logging."""

from dataclasses import dataclass, field
from typing import Literal

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.model import ModelConfig
from megatron_mimo.config.parallel import ParallelConfig
from megatron_mimo.config.precision import PrecisionConfig
from megatron_mimo.config.stages import OptimizerConfig
from megatron_mimo.config.trackers import TrackerConfig, check_trackers


@dataclass(kw_only=True)
class CheckpointConfig:
    """When to save, how many to keep, and whether to write in the background."""

    every_steps: int = 1000
    keep_last: int = 2
    """Newest checkpoints kept; older ones are removed once a newer one is complete."""
    keep_every_tokens: int | None = None
    """Also keep the first checkpoint after each multiple of this many consumed tokens, for good."""
    asynchronous: bool = False
    """Write in a forked process while training continues."""
    save_at_end: bool = True
    verify_on_load: Literal["sizes", "sha256"] = "sha256"
    """How thoroughly a checkpoint is examined before it is resumed; hashing reads every byte once more."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            "checkpoint",
            every_steps=self.every_steps,
            keep_last=self.keep_last,
            keep_every_tokens=self.keep_every_tokens,
        )


OrderSetting = Literal["data", "mixture", "seed", "seq_length", "skip_data"]
"""What decides which tokens the samples of a stage hold."""


@dataclass(kw_only=True)
class ResumeConfig:
    """What a resumed run may change on purpose."""

    allow: list[OrderSetting] = field(default_factory=list)
    """Changed in the middle of a stage these lose its place in the data: a run refuses that unless it is named here.
    Some tokens are then read again and others never."""


@dataclass(kw_only=True)
class StartConfig:
    """Weights to start from instead of random ones; optimizer and position start anew."""

    checkpoint: str
    """A `step_*` folder, or a folder of them (its newest good one is taken)."""
    train: Literal["all", "new_mtp_layers", "mtp_layers"] = "all"
    """`new_mtp_layers` freezes all but the MTP layers that the checkpoint lacks, which start as copies of its last;
    `mtp_layers` freezes all but the MTP layers."""
    allow: list[Literal["rotary_base"]] = field(default_factory=list)
    """Fine-tuning with another RoPE base than that of the weights is refused unless it is named here."""


LinearLayer = Literal["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2", "eh_proj"]
"""megatron-core's linear layers: q, k and v; o; gate and up; down; and the MTP layers' input projection."""
ALL_LINEAR: tuple[LinearLayer, ...] = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2", "eh_proj")


@dataclass(kw_only=True)
class LoRAConfig:
    """Low-rank updates W + alpha / rank * B A of the linear layers, with everything else frozen (Hu et al., 2021)."""

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.0
    """Share of the inputs of A that are zeroed in training."""
    targets: list[LinearLayer] = field(default_factory=lambda: list(ALL_LINEAR))
    """The layers that get updates; all of them by default."""
    mtp_layers: bool = True
    """Update the MTP layers too. false trains only the main model: vLLM's adapters know no MTP layers."""

    def __post_init__(self) -> None:
        require_at_least(1, "lora", rank=self.rank)
        if not 0 <= self.dropout < 1:
            raise ConfigError("lora.dropout", self.dropout, "must be in [0, 1)")
        if not set(self.targets) - (set() if self.mtp_layers else {"eh_proj"}):
            raise ConfigError("lora.targets", self.targets, f"name at least one layer of {', '.join(ALL_LINEAR)}")
        if self.alpha <= 0:
            raise ConfigError("lora.alpha", self.alpha, "must be above 0")

    @property
    def scale(self) -> float:
        """What the product of the two factors is multiplied by."""
        return self.alpha / self.rank


@dataclass(kw_only=True)
class GuardConfig:
    """What to do when a step, a rank or a node misbehaves."""

    on_non_finite: Literal["skip", "rollback", "stop"] = "skip"
    """NaN or Inf in loss or gradient: leave the step out, return to the last checkpoint, or stop."""
    on_spike: Literal["ignore", "skip", "rollback", "stop"] = "ignore"
    """Loss above its running mean by `spike_deviations` running standard deviations."""
    spike_deviations: float = 8.0
    spike_window_steps: int = 100
    max_consecutive_events: int = 10
    """Stop after this many bad steps in a row, or rollbacks to the same checkpoint, whatever the policy."""
    hang_timeout_seconds: float = 600.0
    """A step that takes longer dumps the stacks of every rank and stops the run; 0 switches the watchdog off."""
    startup_timeout_seconds: float = 3600.0
    """The same for a start (hashing and loading a checkpoint, compiling) up to the end of a stage's first step; 0 sets
    no limit there."""
    requeue_exit_code: int = 85
    """Exit code after SIGTERM, SIGUSR1, SIGUSR2 or Ctrl-C: stopped and saved, the same command continues."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            "guard",
            spike_window_steps=self.spike_window_steps,
            max_consecutive_events=self.max_consecutive_events,
            requeue_exit_code=self.requeue_exit_code,
        )
        if self.requeue_exit_code > 255:
            raise ConfigError("guard.requeue_exit_code", self.requeue_exit_code, "must be at most 255")
        require_at_least(
            0,
            "guard",
            spike_deviations=self.spike_deviations,
            hang_timeout_seconds=self.hang_timeout_seconds,
            startup_timeout_seconds=self.startup_timeout_seconds,
        )


@dataclass(kw_only=True)
class LoggingConfig:
    """The trace a run leaves."""

    every_steps: int = 10
    peak_tflops_per_gpu: float | None = None
    """Peak dense bf16 TFLOP/s of the device, for MFU; null logs TFLOP/s without MFU."""
    straggler_every_steps: int = 100
    profile_steps: list[int] | None = None
    """First and last step to record with torch.profiler into the run folder; null for none."""
    trackers: list[TrackerConfig] = field(default_factory=list)
    """Services that keep the curves besides TensorBoard, for example [{kind: wandb, offline: true}]."""

    def __post_init__(self) -> None:
        require_at_least(1, "logging", every_steps=self.every_steps)
        require_at_least(0, "logging", straggler_every_steps=self.straggler_every_steps)
        check_trackers(self.trackers)
        wanted = self.profile_steps
        if wanted is not None and (len(wanted) != 2 or not 1 <= wanted[0] <= wanted[1]):
            raise ConfigError("logging.profile_steps", wanted, "give the first and the last step, for example [10, 12]")


@dataclass(kw_only=True)
class RunConfig:
    """What pre-training, fine-tuning and RL runs share; each adds its data and its schedule."""

    name: str
    output_dir: str
    """Run folder: checkpoints, TensorBoard events, metrics, report, resolved configuration."""
    seed: int = 1234
    num_threads: int | None = None
    """CPU threads per rank; null divides the machine's cores over its ranks."""
    model: ModelConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        require_at_least(1, "run", num_threads=self.num_threads)
        self.parallel.check_against(self.model)
