"""Which module plays which part: layer specs from a backend (torch or Transformer Engine)."""

import importlib.util
from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.backends import BackendSpecProvider
from megatron.core.models.gpt.gpt_layer_specs import get_mlp_module_spec_for_backend
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.multi_token_prediction import (
    MultiTokenPredictionBlockSubmodules,
    MultiTokenPredictionLayerSubmodules,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules

from megatron_mimo.config import ConfigError, ParallelConfig, PrecisionConfig
from megatron_mimo.model.fp8_layers import EmulatedFP8SpecProvider
from megatron_mimo.model.mtp import ParallelMTPLayer
from megatron_mimo.model.recursive_mtp import RecallingAttention
from megatron_mimo.model.torch_layers import RotarySelfAttention, TorchSpecProvider

FP8_CAPABILITY = {"delayed": (8, 9), "tensorwise": (8, 9), "blockwise": (9, 0), "mxfp8": (10, 0)}


def choose_backend(precision: PrecisionConfig) -> tuple[str, str]:
    """The backend's name ("torch" or "transformer_engine") and why; raises ConfigError for an impossible wish."""
    has_engine = importlib.util.find_spec("transformer_engine") is not None
    has_gpu = torch.cuda.is_available()
    if precision.fp8_emulation:
        return "torch", f"precision.fp8_emulation of {precision.fp8_recipe}"
    if precision.fp8_recipe != "none":
        _check_fp8(precision.fp8_recipe, has_engine, has_gpu)
    if precision.backend == "torch":
        return "torch", "asked for by precision.backend"
    if precision.backend == "transformer_engine":
        if not (has_engine and has_gpu):
            missing = "the transformer_engine package" if not has_engine else "a CUDA device"
            raise ConfigError(
                "precision.backend", "transformer_engine", f"{missing} is missing; set precision.backend=torch or auto"
            )
        return "transformer_engine", "asked for by precision.backend"
    if has_engine and has_gpu:
        return "transformer_engine", "installed, and a CUDA device is present"
    return "torch", "no CUDA device" if not has_gpu else "transformer_engine is not installed"


def _check_fp8(recipe: str, has_engine: bool, has_gpu: bool) -> None:
    if not (has_engine and has_gpu):
        missing = "a CUDA device" if not has_gpu else "the transformer_engine package"
        raise ConfigError(
            "precision.fp8_recipe",
            recipe,
            f"FP8 needs {missing}, which is missing here; set precision.fp8_recipe=none, or"
            " precision.fp8_emulation=true to study its numerics",
        )
    capability = torch.cuda.get_device_capability()
    if capability < FP8_CAPABILITY[recipe]:
        raise ConfigError(
            "precision.fp8_recipe",
            recipe,
            f"needs compute capability {FP8_CAPABILITY[recipe]}, this GPU has {capability};"
            " choose another recipe or none",
        )


def check_engine_options(parallel: ParallelConfig, precision: PrecisionConfig, backend: str) -> None:
    """Raise ConfigError for an option that the chosen layers do not have."""
    if backend == "transformer_engine":
        return
    for key, wanted, usual in (
        ("precision.cross_entropy", precision.cross_entropy == "fused", "whole or chunked"),
        ("precision.fuse_gradient_accumulation", precision.fuse_gradient_accumulation, "false"),
        ("parallel.overlap_tensor_parallel", parallel.overlap_tensor_parallel, "false"),
    ):
        if wanted:
            value = "fused" if key.endswith("cross_entropy") else True
            raise ConfigError(key, value, f"is Transformer Engine's, and torch layers were chosen: set it to {usual}")


def spec_provider(backend: str, precision: PrecisionConfig) -> BackendSpecProvider:
    """The provider of the backend's layers, norms and attention."""
    if precision.fp8_emulation:
        return EmulatedFP8SpecProvider(precision)
    if backend == "torch":
        return TorchSpecProvider()
    from megatron.core.extensions.transformer_engine_spec_provider import TESpecProvider

    from megatron_mimo.model.engine_attention import EngineAttention
    from megatron_mimo.model.engine_linear import linear_layers

    layers = linear_layers(precision.fuse_gradient_accumulation)

    class EngineSpecProvider(TESpecProvider):
        def core_attention(self) -> type:
            return EngineAttention

        def column_parallel_layer_norm_linear(self) -> type:
            return layers["TELayerNormColumnParallelLinear"]

        def column_parallel_linear(self) -> type:
            return layers["TEColumnParallelLinear"]

        def row_parallel_linear(self) -> type:
            return layers["TERowParallelLinear"]

    return EngineSpecProvider()


def layer_spec(provider: BackendSpecProvider, core_attention: type | None = None) -> ModuleSpec:
    """One decoder layer: RMSNorm, grouped-query attention with QKV bias, RMSNorm, SwiGLU.

    `core_attention` takes the place of the backend's own.
    """
    add_residual: Any = get_bias_dropout_add
    fused = provider.fuse_layernorm_and_linear()
    norm = IdentityOp if fused else provider.layer_norm(rms_norm=True)
    linear_qkv: Any = provider.column_parallel_layer_norm_linear() if fused else provider.column_parallel_linear()
    attention = ModuleSpec(
        module=SelfAttention if fused else RotarySelfAttention,
        params={"attn_mask_type": AttnMaskType.causal},
        submodules=SelfAttentionSubmodules(
            linear_qkv=linear_qkv,
            core_attention=core_attention or provider.core_attention(),
            linear_proj=provider.row_parallel_linear(),
            q_layernorm=IdentityOp,
            k_layernorm=IdentityOp,
        ),
    )
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=norm,
            self_attention=attention,
            self_attn_bda=add_residual,
            pre_mlp_layernorm=norm,
            mlp=get_mlp_module_spec_for_backend(backend=provider, use_te_activation_func=not fused),
            mlp_bda=add_residual,
            # Checkpoints carry the fused names whatever the backend, so that one backend loads the other's.
            sharded_state_dict_keys_map={
                "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
                "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
            },
        ),
    )


def decoder_spec(provider: BackendSpecProvider, num_layers: int) -> TransformerBlockSubmodules:
    """The decoder without its final norm, which the model applies itself: MTP needs the state before it."""
    return TransformerBlockSubmodules(layer_specs=[layer_spec(provider)] * num_layers, layer_norm=None)


def mtp_spec(
    provider: BackendSpecProvider, mtp_num_layers: int, recursive: bool = False
) -> MultiTokenPredictionBlockSubmodules:
    """`mtp_num_layers` MTP layers, each one decoder layer with its own norms and projection.

    A `recursive` one has torch layers' attention with a memory; with Transformer Engine's it is not trained
    (`training.batch.document_attention` says so).
    """
    norm = provider.layer_norm(rms_norm=True)
    with_memory = recursive and not provider.fuse_layernorm_and_linear()
    layer = ModuleSpec(
        module=ParallelMTPLayer,
        submodules=MultiTokenPredictionLayerSubmodules(
            enorm=norm,
            hnorm=norm,
            eh_proj=provider.column_parallel_linear(),
            transformer_layer=layer_spec(provider, RecallingAttention if with_memory else None),
            layer_norm=norm,
        ),
    )
    return MultiTokenPredictionBlockSubmodules(layer_specs=[layer] * mtp_num_layers)
