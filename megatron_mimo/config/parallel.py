"""How the model is cut over ranks, and what is recomputed to save memory."""

from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.errors import ConfigError
from megatron_mimo.config.model import ModelConfig


@dataclass(kw_only=True)
class ParallelConfig:
    """Group sizes in megatron-core's terms; the data-parallel size is what remains of the world size."""

    tensor_model_parallel_size: int = 1
    pipeline_model_parallel_size: int = 1
    virtual_pipeline_model_parallel_size: int | None = None
    """Model chunks a pipeline rank holds (interleaved schedule); null for one."""
    context_parallel_size: int = 1
    sequence_parallel: bool = False
    """Cut activations outside the tensor-parallel regions along the sequence."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activation recomputation: selective repeats the attention core, full repeats whole layers."""
    recompute_num_layers: int | None = None
    """With recompute=full: only the first so many decoder layers of each pipeline rank's chunk are recomputed, as many
    as memory asks for, and no MTP layer; null recomputes all of both."""
    overlap_communication: bool | None = None
    """Reduce gradients during backward and gather new parameters during the next forward; null where there is a GPU."""
    overlap_tensor_parallel: bool = False
    """Send tensor-parallel pieces while Transformer Engine multiplies others (its user buffers); the MTP layers'
    projection and the heads are left out."""

    def __post_init__(self) -> None:
        for name in ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"parallel.{name}", getattr(self, name), "must be at least 1")
        if self.sequence_parallel and self.tensor_model_parallel_size == 1:
            raise ConfigError(
                "parallel.sequence_parallel", True, "needs parallel.tensor_model_parallel_size > 1; set it to false"
            )
        if self.overlap_tensor_parallel and not self.sequence_parallel:
            raise ConfigError(
                "parallel.overlap_tensor_parallel", True, "needs parallel.sequence_parallel=true; set it to false"
            )
        layers = self.recompute_num_layers
        if layers is not None and (layers < 1 or self.recompute != "full"):
            raise ConfigError(
                "parallel.recompute_num_layers",
                layers,
                "counts the layers that parallel.recompute=full repeats: 1 or more, or null for all; to repeat none set"
                " parallel.recompute=none",
            )
        chunks = self.virtual_pipeline_model_parallel_size
        if chunks is not None and (chunks < 2 or self.pipeline_model_parallel_size == 1):
            raise ConfigError(
                "parallel.virtual_pipeline_model_parallel_size",
                chunks,
                "the interleaved schedule needs 2 or more chunks and parallel.pipeline_model_parallel_size > 1",
            )

    @property
    def model_parallel_size(self) -> int:
        """Ranks that hold one copy of the model: TP x PP x CP."""
        return self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size

    def data_parallel_size(self, world_size: int) -> int:
        """Copies of the model on `world_size` ranks; raises ConfigError when they do not divide evenly."""
        if world_size % self.model_parallel_size:
            raise ConfigError(
                "parallel",
                f"TP x PP x CP = {self.model_parallel_size}",
                f"does not divide the {world_size} ranks that were started; change one of them",
            )
        return world_size // self.model_parallel_size

    def check_against(self, model: ModelConfig) -> None:
        """Raise ConfigError where the model cannot be cut this way."""
        tp, chunks = self.tensor_model_parallel_size, self.virtual_pipeline_model_parallel_size or 1
        for name in ("vocab_size", "num_attention_heads", "num_query_groups", "ffn_hidden_size"):
            if getattr(model, name) % tp:
                raise ConfigError(
                    f"model.{name}",
                    getattr(model, name),
                    f"is not divisible by parallel.tensor_model_parallel_size={tp}"
                    + ("; pad the vocabulary to a multiple of it" if name == "vocab_size" else ""),
                )
        stages = self.pipeline_model_parallel_size * chunks
        if model.num_layers % stages:
            raise ConfigError(
                "model.num_layers",
                model.num_layers,
                f"is not divisible by the {stages} pipeline chunks (pipeline_model_parallel_size x virtual size)",
            )
        if self.recompute_num_layers is not None and self.recompute_num_layers > model.num_layers // stages:
            raise ConfigError(
                "parallel.recompute_num_layers",
                self.recompute_num_layers,
                f"a pipeline rank's chunk has {model.num_layers // stages} layers; null recomputes all",
            )
