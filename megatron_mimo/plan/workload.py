"""One training step as the planner sees it: a model, a stage's batch, and how both are cut over ranks.

Symbols of the planner's modules: `h`idden, `f`fn, `n` heads, `g` key/value heads, `d` head size, `v`ocabulary,
`t`ensor-parallel size, `T` tokens of one micro-batch on one rank, `a` bytes of an activation element.
"""

from dataclasses import dataclass, field
from typing import Literal

from megatron_mimo.config import (
    ConfigError,
    ModelConfig,
    ParallelConfig,
    PrecisionConfig,
    PretrainConfig,
    StageConfig,
)
from megatron_mimo.model.packed_documents import DocumentAttention, choose_document_attention
from megatron_mimo.model.product_attention import MAX_PRODUCT_LENGTH

FP32_BYTES = 4
Backend = Literal["torch", "transformer_engine"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What other trainers can do and this one does not: to compare with their figures, or to see what it would save."""

    optimizer_offload_ratio: float = 0.0
    """Share of the optimizer's state that lies in host memory."""

    def __post_init__(self) -> None:
        if not 0 <= self.optimizer_offload_ratio <= 1:
            raise ConfigError("--offload-optimizer", self.optimizer_offload_ratio, "is a share: choose 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A step of `global_batch_size` sequences on `world_size` ranks."""

    model: ModelConfig
    parallel: ParallelConfig
    precision: PrecisionConfig
    backend: Backend
    seq_length: int
    micro_batch_size: int
    global_batch_size: int
    world_size: int
    intra_document_attention: bool = False
    device: Literal["gpu", "cpu"] = "gpu"
    """The CPU (gloo) keeps other tensors; it is what the memory model is measured on."""
    variant: Variant = field(default_factory=Variant)

    @classmethod
    def of(
        cls, config: PretrainConfig, stage: StageConfig, world_size: int, variant: Variant | None = None
    ) -> "Workload":
        """The step of `stage` on GPUs: `backend: auto` is taken as Transformer Engine, `dtype: auto` as bf16.

        Raises ConfigError when the stage's batches or sequences do not divide over the ranks.
        """
        parallel = config.layout(stage)
        parallel.check_against(config.model)
        config.check_stage(stage, world_size)
        return cls(
            model=config.model,
            parallel=parallel,
            precision=config.precision,
            backend="torch"
            if config.precision.backend == "torch" or config.precision.fp8_emulation
            else "transformer_engine",
            seq_length=stage.seq_length,
            micro_batch_size=stage.micro_batch_size,
            global_batch_size=stage.global_batch_size,
            world_size=world_size,
            intra_document_attention=config.data.intra_document_attention,
            variant=variant or Variant(),
        )

    @property
    def document_attention(self) -> DocumentAttention:
        """How documents that share a row are kept apart."""
        recursive = self.model.mtp_recursive_steps > 1
        return choose_document_attention(self.intra_document_attention, self.backend, self.seq_length, recursive)

    @property
    def gathers_keys(self) -> bool:
        """Whether context-parallel ranks gather all keys and values; Transformer Engine passes them around a ring where
        rows are not packed."""
        ring = self.backend == "transformer_engine" and self.document_attention != "packed"
        return self.parallel.context_parallel_size > 1 and not ring

    @property
    def attention_by_products(self) -> bool:
        """Whether the attention core keeps its weights [n, s, S]: short rows on a CPU."""
        short = self.device == "cpu" and self.seq_length <= MAX_PRODUCT_LENGTH
        return short and self.document_attention != "packed"

    @property
    def fp8_primary_weights(self) -> bool:
        """Whether the decoder layers' matrices have no bf16 copy."""
        return self.fp8 and self.precision.fp8_parameters

    @property
    def fused_cross_entropy(self) -> bool:
        """Whether the loss's gradient takes the place of the logits in their own format."""
        return self.precision.cross_entropy == "fused"

    @property
    def gradient_bytes(self) -> int:
        """Bytes of a gradient as it is accumulated and reduced."""
        return 2 if self.precision.gradient_dtype == "bf16" else FP32_BYTES

    @property
    def recomputed_layers(self) -> int:
        """Decoder layers of a pipeline rank that run their forward pass again; not those of selective recomputation."""
        if self.parallel.recompute != "full":
            return 0
        first = self.parallel.recompute_num_layers
        return self.layers_per_rank if first is None else first * self.chunks_per_rank

    @property
    def recomputes_mtp(self) -> bool:
        """Whether MTP layers run their forward pass again."""
        return self.parallel.recompute == "full" and self.parallel.recompute_num_layers is None

    @property
    def loss_in_place(self) -> bool:
        """Whether the loss's gradient takes the place of the logits: a CPU that has the whole vocabulary."""
        whole = self.precision.cross_entropy == "whole"
        return whole and self.device == "cpu" and self.parallel.tensor_model_parallel_size == 1

    @property
    def head_slab(self) -> int | None:
        """Vocabulary entries whose logits live at once in chunked heads; None where heads keep all logits."""
        if self.precision.cross_entropy != "chunked":
            return None
        local = self.model.vocab_size // self.parallel.tensor_model_parallel_size
        return min(self.precision.cross_entropy_chunk_vocab, local)

    @property
    def data_parallel_size(self) -> int:
        return self.parallel.data_parallel_size(self.world_size)

    @property
    def num_microbatches(self) -> int:
        """Micro-batches a pipeline runs in one step."""
        return self.global_batch_size // (self.micro_batch_size * self.data_parallel_size)

    @property
    def chunks_per_rank(self) -> int:
        """Model chunks of a pipeline rank under the interleaved schedule, else 1."""
        return self.parallel.virtual_pipeline_model_parallel_size or 1

    @property
    def layers_per_rank(self) -> int:
        return self.model.num_layers // self.parallel.pipeline_model_parallel_size

    @property
    def rank_tokens(self) -> int:
        """`T`: tokens of one micro-batch on one context-parallel rank."""
        return self.micro_batch_size * self.seq_length // self.parallel.context_parallel_size

    @property
    def step_tokens(self) -> int:
        """Tokens of one step over all ranks."""
        return self.global_batch_size * self.seq_length

    @property
    def sequence_parallel_size(self) -> int:
        """Ways the activations between tensor-parallel regions are cut."""
        return self.parallel.tensor_model_parallel_size if self.parallel.sequence_parallel else 1

    @property
    def element_bytes(self) -> int:
        """`a`: bytes of a weight or activation element."""
        return 4 if self.precision.dtype == "fp32" else 2

    @property
    def fp8(self) -> bool:
        return self.precision.fp8_recipe != "none" and not self.precision.fp8_emulation

    def is_last(self, pipeline_rank: int) -> bool:
        return pipeline_rank == self.parallel.pipeline_model_parallel_size - 1
