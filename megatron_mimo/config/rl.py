"""The root of an RL configuration file, and its parts. Numbers of the report (section 3) are the defaults."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.config.run import RunConfig, StartConfig

RULES = "rules"
"""The built-in reward in `reward.functions`."""


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Sampling of one rollout (report section 3.3): temperature 1.0, top-p 1.0."""

    max_new_tokens: int = 32_768
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, "generation", max_new_tokens=self.max_new_tokens)
        require_at_least(0, "generation", temperature=self.temperature)
        if not 0 < self.top_p <= 1:
            raise ConfigError("generation.top_p", self.top_p, "must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class PolicyLossConfig:
    """Eq. 1 of the report with nothing else by default (report section 3.3)."""

    clip_ratio_low: float = 0.2
    clip_ratio_high: float = 0.28
    """At least clip_ratio_low: clip-higher. The report gives no numbers; these are DAPO's."""
    dual_clip: float | None = None
    """Lower bound c * A on the objective of tokens with A < 0 (verl uses 3)."""
    importance_cap: float | None = None
    """Truncated importance correction: weight tokens by min(pi_old / pi_rollout, cap)."""
    log_ratio_limit: float | None = None
    """Clamp the log ratio to +- this before the exponential (verl uses 20)."""
    kl_coefficient: float = 0.0
    """Weight of the divergence from the policy that the run started from, per token (DeepSeekMath, eq. 4, uses 0.04).
    The report removes this term: 0. Above 0 every trainer rank holds a second copy of its weights in host memory."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_ratio_low < 1:
            raise ConfigError("clip_ratio_low", self.clip_ratio_low, "must be in [0, 1)")
        if self.clip_ratio_high < self.clip_ratio_low:
            raise ConfigError("clip_ratio_high", self.clip_ratio_high, "must be at least clip_ratio_low (clip-higher)")
        if not 0 <= self.kl_coefficient < math.inf:
            raise ConfigError("kl_coefficient", self.kl_coefficient, "must be 0 or above, and finite")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ConfigError("dual_clip", self.dual_clip, "must be above 1, or null")
        for name, value in (("importance_cap", self.importance_cap), ("log_ratio_limit", self.log_ratio_limit)):
            if value is not None and value <= 0:
                raise ConfigError(name, value, "must be above 0, or null")


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """Retry limits before a group is dropped."""

    max_generation_attempts: int = 5
    """Of one sample. An engine's death counts against every sample that it ran."""
    max_reward_attempts: int = 3
    delay_seconds: float = 1.0
    """Before the second attempt; doubles with each, up to max_delay_seconds."""
    max_delay_seconds: float = 60.0
    generation_timeout_seconds: float | None = None
    """Of one response; null: timeout_factor times what the length budget takes at the engines' measured speed."""
    timeout_factor: float = 3.0
    min_generation_timeout_seconds: float = 60.0
    first_tokens_per_second: float = 5.0
    """Assumed before any engine finished a response."""
    max_timeouts: int = 3
    """Of an engine in a row; then it counts as dead and is started again."""
    restart_timeout_seconds: float = 1800.0
    """A restart that takes longer has failed."""
    reward_timeout_seconds: float | None = 600.0
    max_restarts: int = 5
    """Deaths of an engine in a row before it is given up; one that has lived four times as long as its restart took
    begins a new row."""

    def pause_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row, 1 or more."""
        return min(self.max_delay_seconds, self.delay_seconds * 2 ** min(failures - 1, 60))

    def __post_init__(self) -> None:
        require_at_least(1, "retry", max_generation_attempts=self.max_generation_attempts)
        require_at_least(1, "retry", max_reward_attempts=self.max_reward_attempts)
        require_at_least(0, "retry", delay_seconds=self.delay_seconds, max_restarts=self.max_restarts)
        require_at_least(1, "retry", max_timeouts=self.max_timeouts, timeout_factor=self.timeout_factor)
        for name in (
            "generation_timeout_seconds",
            "reward_timeout_seconds",
            "min_generation_timeout_seconds",
            "first_tokens_per_second",
            "restart_timeout_seconds",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"retry.{name}", value, "must be above 0, or null")


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """The rollout of one step (report sections 3.3 and 3.4.1)."""

    num_groups: int = 512
    """Prompts per batch."""
    samples_per_prompt: int = 16
    seed: int = 1234
    """Of the requests; a run puts its own `seed` here."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    max_concurrent_rewards: int = 256
    max_pending_rewards: int = 4096
    """Back-pressure: no launches while more finished samples than this wait for their reward."""
    max_launched_groups: int = 0
    """Groups of one step before it gives up (all prompts too easy or too hard); 0: 20 times num_groups."""
    survival_prior: float = 0.5
    """Share of prompts expected to pass dynamic sampling, before the first one did."""
    survival_weight_groups: int = 64
    """Groups of the present step that weigh as much as the steps before."""

    def __post_init__(self) -> None:
        require_at_least(1, "rollout", num_groups=self.num_groups, samples_per_prompt=self.samples_per_prompt)
        require_at_least(1, "rollout", max_concurrent_rewards=self.max_concurrent_rewards)
        require_at_least(1, "rollout", survival_weight_groups=self.survival_weight_groups)
        require_at_least(0, "rollout", max_pending_rewards=self.max_pending_rewards)
        if not 0 < self.survival_prior <= 1:
            raise ConfigError("rollout.survival_prior", self.survival_prior, "must be above 0 and at most 1")
        if self.max_launched_groups and self.max_launched_groups < self.num_groups:
            raise ConfigError("rollout.max_launched_groups", self.max_launched_groups, "must cover num_groups, or be 0")

    @property
    def launch_limit(self) -> int:
        return self.max_launched_groups or 20 * self.num_groups

    def with_max_new_tokens(self, max_new_tokens: int) -> "RolloutConfig":
        """The same with another response budget."""
        return replace(self, generation=replace(self.generation, max_new_tokens=max_new_tokens))


@dataclass(kw_only=True)
class RLDataConfig:
    """Problems in this project's form (rl/problems), one JSON per line."""

    train: list[str]
    """Files; `PATH#1000` takes 1000 of its problems, chosen by the hash of their ids."""
    valid: list[str] = field(default_factory=list)
    tokenizer: str = ""
    """Folder of a Hugging Face tokenizer."""
    use_chat_template: bool = True
    system: str | None = ""
    """System message of the chat template. Empty by Xiaomi's advice; null leaves it to the template."""
    max_prompt_tokens: int = 2048
    """Problems with longer prompts are left out, and counted."""
    easy_pool_alpha: float = 0.1
    """Probability that a draw comes from the pool of solved prompts; 0 switches the pool off (report section 3.3.2)."""
    drop_solved: bool = False
    """Without the pool: prompts that all samples solve leave the data for good, which the report found unstable
    (section 3.3.2). Off, they stay in the data."""

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("data.train", [], "name at least one file of problems")
        require_at_least(1, "data", max_prompt_tokens=self.max_prompt_tokens)
        if self.system and not self.use_chat_template:
            raise ConfigError("data.system", self.system, "there is no place for it without data.use_chat_template")
        if not 0 <= self.easy_pool_alpha < 1:
            raise ConfigError("data.easy_pool_alpha", self.easy_pool_alpha, "must be in [0, 1)")
        if self.drop_solved and self.easy_pool_alpha:
            raise ConfigError(
                "data.drop_solved", True, "needs data.easy_pool_alpha=0: the pool brings solved ones back"
            )


@dataclass(kw_only=True)
class WeighedReward:
    """One of several rewards."""

    function: str
    """`rules`, or `FILE.py:NAME` (reward/own.py)."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise ConfigError("reward.functions.weight", self.weight, "must be a finite number that is not 0")


@dataclass(kw_only=True)
class RewardConfig:
    """Only rule-based accuracy by default."""

    RENAMED: ClassVar = {"math_workers": "num_math_workers", "math_limit_seconds": "math_timeout_seconds"}
    function: str = ""
    """`FILE.py:NAME`, a function (problem, response) that scores in place of the rules (reward/own.py)."""
    functions: list[WeighedReward] = field(default_factory=list)
    """Several rewards, weighed and added; `rules` is the built-in one. Empty: only one reward."""
    scheme: Literal["strict", "soft", "all_or_nothing"] = "strict"
    """Of the code reward over difficulty levels (report section 3.3.1); `all_or_nothing` knows no levels."""
    language_penalty: float = 0.0
    """Off in the report, which warns of it (report section 3.6)."""
    num_math_workers: int = 2
    """Processes that compare mathematical answers."""
    math_timeout_seconds: float = 10.0
    """Processor time of one comparison; one that takes longer is a fault, not a wrong answer."""
    judge_slots: int = 1
    """Slots of the local judge; with judge_urls none is started."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """The local judge's other settings: `judge.python_packages` lets programs import numpy, sortedcontainers ..."""
    judge_urls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_at_least(1, "reward", num_math_workers=self.num_math_workers, judge_slots=self.judge_slots)
        require_at_least(0, "reward", language_penalty=self.language_penalty)
        if self.function and self.functions:
            raise ConfigError("reward.function", self.function, "name it in reward.functions, or leave those out")
        names = [one.function for one in self.functions]
        if len(set(names)) != len(names):
            raise ConfigError("reward.functions", names, "names a function twice")

    @property
    def weighed(self) -> dict[str, float]:
        """Every reward with its weight."""
        return {one.function: one.weight for one in self.functions} or {self.function or RULES: 1.0}

    @property
    def local_judge(self) -> JudgeConfig:
        return replace(self.judge, num_slots=self.judge.num_slots or self.judge_slots)


@dataclass(kw_only=True)
class EngineConfig:
    """The rollout engines."""

    num_engines: int = 1
    tensor_model_parallel_size: int = 1
    max_concurrent_requests: int = 256
    num_speculative_tokens: int = 1
    """Drafted by the MTP layer; 0 switches speculation off."""
    memory_bytes: int = 1 << 30
    """For keys and values, on CPU."""
    weight_transfer: Literal["folder", "broadcast"] = "folder"
    """How new weights travel after every step: by weights_folder, or from memory to memory over NCCL (gloo on CPUs),
    which needs a GPU for every trainer rank and every engine worker."""
    weights_folder: str = "/dev/shm"
    """Where the trainer leaves weights for engines that start, and with `folder` all others: seen by both. A tmpfs on
    one machine, a shared file system on several."""
    gpu_memory_ratio: float = 0.85
    """Of a GPU's memory: weights, keys and values, work space."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: as the weights were exported; float32 on CPUs that would emulate bf16."""
    seq_length: int = 0
    """Longest prompt and response together, tokens; 0: what the model was trained with."""
    num_threads: int = 1
    """Of one engine, on CPU."""
    actor_cpus: float = 0.1
    """CPUs that an engine takes from Ray's count. Small: engines that took all would leave none for other actors."""

    def __post_init__(self) -> None:
        require_at_least(
            1, "engine", num_engines=self.num_engines, max_concurrent_requests=self.max_concurrent_requests
        )
        require_at_least(1, "engine", tensor_model_parallel_size=self.tensor_model_parallel_size)
        require_at_least(1, "engine", num_threads=self.num_threads, memory_bytes=self.memory_bytes)
        require_at_least(0, "engine", num_speculative_tokens=self.num_speculative_tokens, seq_length=self.seq_length)
        require_at_least(0, "engine", actor_cpus=self.actor_cpus)
        if not 0 < self.gpu_memory_ratio < 1:
            raise ConfigError("engine.gpu_memory_ratio", self.gpu_memory_ratio, "must be above 0 and below 1")


@dataclass(kw_only=True)
class LengthBudget:
    """Response tokens from a step on."""

    from_step: int
    max_new_tokens: int


@dataclass(kw_only=True)
class RLConfig(RunConfig):
    """One RL run: `megatron-mimo rl CONFIG.yaml` reads exactly this. Recipe: section 3.3 of the report."""

    start: StartConfig
    data: RLDataConfig
    reward: RewardConfig = field(default_factory=RewardConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rollout: RolloutConfig = field(default_factory=lambda: RolloutConfig())
    scheduling: Literal["seamless", "static", "naive", "continuous", "asynchronous", "first_finished"] = "seamless"
    """How rollouts are launched and ended: `seamless` is the report's engine, the others are what it is compared with
    (report section 3.4.1)."""
    length_schedule: list[LengthBudget] = field(default_factory=list)
    """Report's 0530 release: 32K, 38K, 48K. Empty: rollout.generation.max_new_tokens throughout."""
    num_steps: int
    mini_batch_groups: int = 32
    """Prompts per gradient update: 512 / 32 = 16 updates per step (report section 3.3)."""
    on_policy: bool = False
    """One update per step, over the whole batch (0530 release); mini_batch_groups is not used then."""
    micro_batch_tokens: int = 8192
    """Tokens of a micro-batch, a row of packed samples; a longer sample has its own row."""
    loss: PolicyLossConfig = field(default_factory=PolicyLossConfig)
    divide_advantages_by_std: bool = True
    overlong_masking: bool = False
    """Leave samples cut at the budget out of the loss."""
    learning_rate: float = 1e-6
    """Constant (report section 3.3)."""
    mtp: Literal["frozen", "detached"] = "frozen"
    """frozen: the MTP layers stay as they are (report section 3.3). detached: they learn to predict the rollouts, by
    cross entropy whose gradient reaches no other weight, so that the engines' drafts keep up with the policy."""
    mtp_learning_rate: float | None = None
    """Of the MTP layers, with mtp=detached; null: learning_rate."""
    data_parallel_size: int = 1
    """Trainer ranks that hold the same part of the model, which `parallel` cuts."""
    keep_rollout_steps: int = 50
    """Newest steps whose responses stay in OUTPUT_DIR/rollouts, to be read; 0: none are written."""
    validation_interval_steps: int = 10
    validation_samples: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "rl", num_steps=self.num_steps, mini_batch_groups=self.mini_batch_groups)
        require_at_least(1, "rl", micro_batch_tokens=self.micro_batch_tokens)
        require_at_least(1, "rl", data_parallel_size=self.data_parallel_size)
        require_at_least(1, "rl", validation_samples=self.validation_samples)
        require_at_least(0, "rl", keep_rollout_steps=self.keep_rollout_steps)
        self._check_trainer()
        if not self.on_policy and self.rollout.num_groups % self.mini_batch_groups:
            raise ConfigError("mini_batch_groups", self.mini_batch_groups, "must divide rollout.num_groups")
        steps = [budget.from_step for budget in self.length_schedule]
        if steps != sorted(set(steps)):
            raise ConfigError("length_schedule", steps, "from_step must grow from entry to entry")

    def _check_trainer(self) -> None:
        """What the trainer does not do."""
        for name, usual in (("context_parallel_size", 1), ("virtual_pipeline_model_parallel_size", None)):
            if getattr(self.parallel, name) != usual:
                raise ConfigError(
                    f"parallel.{name}", getattr(self.parallel, name), "RL cuts the model by TP and PP: leave it out"
                )
        for key, wanted in (
            ("parallel.overlap_tensor_parallel", self.parallel.overlap_tensor_parallel),
            ("precision.fp8_parameters", self.precision.fp8_parameters),
        ):
            if wanted:
                reason = (
                    "rows have other lengths at every step" if "overlap" in key else "engines are sent bf16 weights"
                )
                raise ConfigError(key, True, f"RL does without it, for {reason}: set it to false")
        for name in ("temperature", "top_p"):
            value = getattr(self.rollout.generation, name)
            if value != 1:
                way_out = "must be 1 (report section 3.3): Eq. 1 compares probabilities under the samples' own law"
                raise ConfigError(f"rollout.generation.{name}", value, way_out)
        for name in ("on_non_finite", "on_spike"):
            if getattr(self.guard, name) == "rollback":
                raise ConfigError(
                    f"guard.{name}", "rollback", "the rollout cannot go back with the model: skip or stop"
                )
        if self.start.train != "all":
            raise ConfigError("start.train", self.start.train, "RL trains all, the MTP layers by `mtp`: set it to all")
        self._check_mtp()

    def _check_mtp(self) -> None:
        if self.mtp == "detached" and not self.model.mtp_num_layers:
            raise ConfigError("mtp", self.mtp, "the model has no MTP layers (model.mtp_num_layers=0): set it to frozen")
        if self.mtp == "detached" and self.model.mtp_recursive_steps > 1:
            raise ConfigError(
                "mtp",
                self.mtp,
                f"RL does not train the draft steps of a recursive MTP layer (model.mtp_recursive_steps="
                f"{self.model.mtp_recursive_steps}): set it to frozen, and fine-tune the layer again after RL",
            )
        if self.mtp_learning_rate is None:
            return
        if self.mtp == "frozen":
            raise ConfigError("mtp_learning_rate", self.mtp_learning_rate, "trains nothing: set mtp=detached, or null")
        if self.mtp_learning_rate <= 0:
            raise ConfigError("mtp_learning_rate", self.mtp_learning_rate, "must be above 0, or null: learning_rate")

    @property
    def trainer_world_size(self) -> int:
        """Ranks of the trainer."""
        return self.parallel.model_parallel_size * self.data_parallel_size

    @property
    def updates_per_step(self) -> int:
        """Gradient updates per step."""
        return 1 if self.on_policy else self.rollout.num_groups // self.mini_batch_groups

    def max_new_tokens(self, step: int) -> int:
        """The response budget of a step, counted from 0."""
        reached = [budget.max_new_tokens for budget in self.length_schedule if budget.from_step <= step]
        return reached[-1] if reached else self.rollout.generation.max_new_tokens
