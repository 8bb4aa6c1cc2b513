"""Number formats, the layer backend that computes in them, and the form of the output heads."""

from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.errors import ConfigError

FP8Recipe = Literal["none", "delayed", "tensorwise", "blockwise", "mxfp8"]


@dataclass(kw_only=True)
class PrecisionConfig:
    """Parameters and activations in `dtype`, gradients in `gradient_dtype`, optimizer state in fp32."""

    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 on GPUs and CPUs that multiply it in hardware, fp32 elsewhere; a resumed run keeps what it has."""
    dtype_reason: str = ""
    """Filled in by the program when it decides on `dtype`: how it did."""
    gradient_dtype: Literal["fp32", "bf16"] = "fp32"
    """In which gradients are summed over micro-batches and reduced over ranks. bf16 takes half the memory and traffic,
    and rounds every sum; the optimizer works in fp32 either way."""
    backend: Literal["auto", "torch", "transformer_engine"] = "auto"
    """Layer implementation: auto takes Transformer Engine where it is installed beside a GPU, torch otherwise."""
    fp8_recipe: FP8Recipe = "none"
    """Scaling rule of FP8 matrix products (Transformer Engine on Hopper or newer; mxfp8 needs Blackwell)."""
    fp8_format: Literal["hybrid", "e4m3"] = "hybrid"
    """hybrid: e4m3 forward, e5m2 gradients."""
    fp8_parameters: bool = False
    """Keep the decoder layers' matrices in FP8 alone, and gather them in FP8 after an update; the optimizer's fp32 copy
    is the weight. Otherwise each is kept in bf16 and, while it is used, in FP8 as well."""
    fp8_emulation: bool = False
    """Round as the recipe does, in torch layers on any device, slowly: to study a recipe, not to train."""
    cross_entropy: Literal["whole", "chunked", "fused"] = "whole"
    """Output heads: whole keeps a micro-batch's logits and an fp32 softmax; chunked makes a slab of the vocabulary at a
    time, twice; fused has Transformer Engine's kernel put the gradient in the logits' place."""
    cross_entropy_chunk_vocab: int = 4096
    """Vocabulary entries (of a tensor-parallel rank) that a chunked head works on at once."""
    fuse_gradient_accumulation: bool = False
    """The products for weight gradients of Transformer Engine's layers add to the gradient buffer themselves, instead
    of writing a tensor that is then added. No Apex is needed, and heads and embedding go the usual way."""

    def __post_init__(self) -> None:
        if self.cross_entropy_chunk_vocab < 1:
            raise ConfigError(
                "precision.cross_entropy_chunk_vocab", self.cross_entropy_chunk_vocab, "must be at least 1"
            )
        if self.gradient_dtype == "bf16" and self.dtype == "fp32":
            raise ConfigError("precision.gradient_dtype", "bf16", "fp32 weights have fp32 gradients: set it to fp32")
        if self.fp8_recipe != "none" and self.dtype == "fp32":
            raise ConfigError("precision.fp8_recipe", self.fp8_recipe, "needs precision.dtype=bf16, or auto")
        if self.fp8_recipe != "none" and self.backend == "torch" and not self.fp8_emulation:
            raise ConfigError(
                "precision.fp8_recipe",
                self.fp8_recipe,
                "FP8 layers come from Transformer Engine: set precision.backend=transformer_engine, fp8_recipe=none, or"
                " fp8_emulation=true to study its numerics",
            )
        if self.fp8_parameters and (self.fp8_recipe == "none" or self.fp8_emulation):
            reason = "needs a precision.fp8_recipe" if self.fp8_recipe == "none" else "is not emulated: set it to false"
            raise ConfigError("precision.fp8_parameters", True, reason)
        if self.fp8_parameters and self.fp8_recipe == "mxfp8":
            way_out = (
                "megatron-core gathers MXFP8 weights through the gradient buffer, which is not built: set it to false"
            )
            raise ConfigError("precision.fp8_parameters", True, way_out)
        for name, value in (("cross_entropy", "fused"), ("fuse_gradient_accumulation", True)):
            if getattr(self, name) == value and (self.backend == "torch" or self.fp8_emulation):
                other = "whole or chunked" if name == "cross_entropy" else "false"
                raise ConfigError(
                    f"precision.{name}",
                    value,
                    f"is Transformer Engine's, and torch layers are chosen: set it to {other}",
                )
        if self.fp8_emulation and (self.fp8_recipe == "none" or self.backend == "transformer_engine"):
            reason = "needs a precision.fp8_recipe" if self.fp8_recipe == "none" else "needs precision.backend=torch"
            raise ConfigError("precision.fp8_emulation", True, reason)
