"""The root of a fine-tuning configuration file: chat data in, the trainer's settings out."""

from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.data import DataConfig, split_record_count
from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.run import StartConfig
from megatron_mimo.config.stages import LearningRateSegment, MTPLossWeight, StageConfig, check_recipe
from megatron_mimo.config.training import LoopConfig, TrainingConfig


@dataclass(kw_only=True)
class ChatSourceConfig:
    """One file of conversations."""

    path: str
    """JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or a JSON list; `PATH#1000` takes 1000 records at random."""
    weight: float = 1.0
    """Times each record is seen an epoch; a fraction takes that share of the records at random."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ConfigError("data.sources: weight", self.weight, "must be above 0; leave out unused sources")
        split_record_count("data.sources: path", self.path)

    @property
    def file(self) -> str:
        """The path alone."""
        return split_record_count("data.sources: path", self.path)[0]

    @property
    def records(self) -> int | None:
        """Records to take of it; None takes all."""
        return split_record_count("data.sources: path", self.path)[1]


@dataclass(kw_only=True)
class ChatDataConfig:
    """Conversations, their filters, and how they become rows of tokens."""

    sources: list[ChatSourceConfig]
    tokenizer: str
    """Folder of a Hugging Face tokenizer with a chat template."""
    prepared: str
    """Folder for the tokenized and packed samples; made when missing, or when these settings have changed."""
    valid_share: float = 0.01
    """Share of the conversations held out, chosen by the hash of their content."""
    system: str | None = None
    """System message of conversations that have none. Empty is an empty system message, as Xiaomi
    recommends and as evaluation, RL and chat ask; null leaves it to the chat template, which may write one."""
    ignore_empty_think: bool = False
    """Leave an empty think block out of the loss."""
    max_responses_per_query: int = 8
    """More responses to the same query are dropped (report section 3.1)."""
    drop_mixed_language: bool = True
    """Drop responses that mix languages (report section 3.1)."""
    drop_incomplete: bool = True
    """Drop responses without an end (report section 3.1)."""
    decontamination_index: str | None = None
    """Folder made by `megatron-mimo decontaminate`; queries with a benchmark's n-gram are dropped."""
    on_bad_record: Literal["skip", "stop"] = "skip"
    """`skip` counts records that cannot be used and lists them in the report; `stop` ends at the first."""
    loader: Literal["torch", "dali"] = "torch"
    """Batch loader; both give the same rows in the same order."""
    num_workers: int = 1
    """Reader processes (torch) or threads (dali) a rank."""

    def __post_init__(self) -> None:
        require_at_least(1, "data", max_responses_per_query=self.max_responses_per_query)
        require_at_least(0, "data", num_workers=self.num_workers)
        if not self.sources:
            raise ConfigError("data.sources", [], "name at least one file of conversations")
        if not 0 <= self.valid_share < 1:
            raise ConfigError("data.valid_share", self.valid_share, "must be in [0, 1)")


@dataclass(kw_only=True)
class SFTConfig(LoopConfig):
    """One fine-tuning run: `megatron-mimo sft CONFIG.yaml` reads exactly this. Recipe: section 3.1 of the report."""

    start: StartConfig
    data: ChatDataConfig
    seq_length: int = 32_768
    """Tokens of a packed row (report section 3.1); longer samples are dropped and counted."""
    rotary_base: int = 640_000
    epochs: int = 1
    global_batch_size: int = 128
    """Packed rows per step (report section 3.1)."""
    micro_batch_size: int = 1
    learning_rate: float = 3e-5
    """Constant (report section 3.1), unless `final_learning_rate` is set."""
    final_learning_rate: float | None = None
    """Where a cosine takes the learning rate by the last step; null keeps it constant."""
    mtp_loss_scaling_factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "run", epochs=self.epochs, seq_length=self.seq_length)
        self.check_start(self.start)
        check_recipe([self.stage(steps=1)], self.mtp_loss)

    def check_world_size(self, world_size: int) -> None:
        """Raise ConfigError where a step's rows do not fit on `world_size` ranks."""
        self.check_stage(self.stage(steps=1), world_size)

    @property
    def mtp_loss(self) -> list[MTPLossWeight]:
        """One weight for the whole run."""
        return [MTPLossWeight(mtp_loss_scaling_factor=self.mtp_loss_scaling_factor)]

    def stage(self, steps: int) -> StageConfig:
        """The one stage of a run of so many steps; raises ConfigError where its batch is impossible."""
        tokens = steps * self.global_batch_size * self.seq_length
        rate, final = self.learning_rate, self.final_learning_rate
        kind = "constant" if final is None else "cosine"
        end = rate if final is None else final
        return StageConfig(
            name="sft",
            tokens=tokens,
            seq_length=self.seq_length,
            rotary_base=self.rotary_base,
            learning_rate=[LearningRateSegment(kind=kind, tokens=tokens, start=rate, end=end)],
            global_batch_size=self.global_batch_size,
            micro_batch_size=self.micro_batch_size,
        )

    def training_run(self, num_rows: int) -> TrainingConfig:
        """The run over `num_rows` packed rows, as the trainer takes it: one stage."""
        return TrainingConfig(
            **self.loop_settings(),
            start=self.start,
            stages=[self.stage(steps=-(-num_rows // self.global_batch_size))],
            mtp_loss=self.mtp_loss,
            data=DataConfig(
                path=self.data.prepared,
                tokenizer=self.data.tokenizer,
                loader=self.data.loader,
                num_workers=self.data.num_workers,
            ),
        )
