"""From configuration to the megatron-core model: TransformerConfig, chunks of a pipeline rank, parameter count."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.transformer import TransformerConfig

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.model.gpt import MTPGPTModel
from megatron_mimo.model.precision import precision_fields
from megatron_mimo.model.spec import check_engine_options, choose_backend, decoder_spec, mtp_spec, spec_provider
from megatron_mimo.platform import cpu


def recompute_fields(parallel: ParallelConfig) -> dict[str, Any]:
    """TransformerConfig fields for recomputation; "block" repeats the first layers of a chunk alone."""
    if parallel.recompute == "none":
        return {}
    if parallel.recompute == "selective":
        return {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]}
    method = "uniform" if parallel.recompute_num_layers is None else "block"
    layers = parallel.recompute_num_layers or 1
    return {"recompute_granularity": "full", "recompute_method": method, "recompute_num_layers": layers}


def transformer_config(
    model: ModelConfig, parallel: ParallelConfig, precision: PrecisionConfig, backend: str
) -> TransformerConfig:
    """megatron-core's configuration of the same model.

    Losses are sums over tokens that `finalize_model_grads` divides by the global token count
    (`calculate_per_token_loss`), so gradients do not depend on how a batch is cut over ranks and micro-batches.
    """
    engine = backend == "transformer_engine"
    interleaved = parallel.virtual_pipeline_model_parallel_size is not None
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        ffn_hidden_size=model.ffn_hidden_size,
        num_attention_heads=model.num_attention_heads,
        num_query_groups=model.num_query_groups,
        kv_channels=model.kv_channels,
        normalization="RMSNorm",
        layernorm_epsilon=model.layernorm_epsilon,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        add_qkv_bias=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        init_method_std=model.init_method_std,
        use_cpu_initialization=not torch.cuda.is_available(),
        mtp_num_layers=model.mtp_num_layers or None,
        tensor_model_parallel_size=parallel.tensor_model_parallel_size,
        pipeline_model_parallel_size=parallel.pipeline_model_parallel_size,
        virtual_pipeline_model_parallel_size=parallel.virtual_pipeline_model_parallel_size,
        context_parallel_size=parallel.context_parallel_size,
        sequence_parallel=parallel.sequence_parallel,
        calculate_per_token_loss=True,
        # Between two pipeline ranks, batched messages of both directions are mistaken for each other.
        overlap_p2p_comm=interleaved,
        batch_p2p_comm=not interleaved,
        deallocate_pipeline_outputs=torch.cuda.is_available(),
        bias_activation_fusion=engine,
        # Megatron-core's name for "the spec brings its own module": here that of the torch backend.
        use_te_activation_func=not engine,
        bias_dropout_fusion=engine,
        apply_rope_fusion=engine,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        # Of Transformer Engine's layers alone, by precision.fuse_gradient_accumulation: see engine_linear.py.
        gradient_accumulation_fusion=False,
        tp_comm_overlap=parallel.overlap_tensor_parallel,
        **recompute_fields(parallel),
        **precision_fields(precision),
    )


def build_model_chunk(
    model: ModelConfig,
    config: TransformerConfig,
    backend: str,
    seq_length: int,
    rotary_base: int,
    vp_stage: int | None,
    precision: PrecisionConfig | None = None,
) -> MTPGPTModel:
    """One chunk of this pipeline rank (`vp_stage` of the interleaved schedule), weights not yet initialized.

    `precision` says what `config` does not: emulated FP8 layers and the form of the heads.
    """
    precision = precision or PrecisionConfig()
    provider = spec_provider(backend, precision)
    first = parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage)
    last = parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage)
    chunks = config.pipeline_model_parallel_size * (config.virtual_pipeline_model_parallel_size or 1)
    return MTPGPTModel(
        config=config,
        transformer_layer_spec=decoder_spec(provider, model.num_layers // chunks),
        vocab_size=model.vocab_size,
        max_sequence_length=seq_length,
        pre_process=first,
        post_process=last,
        parallel_output=True,
        share_embeddings_and_output_weights=False,
        position_embedding_type="rope",
        rotary_base=rotary_base,
        mtp_block_spec=mtp_spec(provider, model.mtp_num_layers, model.mtp_recursive_steps > 1)
        if last and model.mtp_num_layers
        else None,
        vp_stage=vp_stage,
        mtp_before_final_norm=model.mtp_hidden_state == "before_final_norm",
        mtp_zero_first_embedding=model.mtp_zero_first_embedding,
        mtp_recursive_steps=model.mtp_recursive_steps,
        final_norm=provider.layer_norm(rms_norm=True),
        cross_entropy_chunk_vocab=precision.cross_entropy_chunk_vocab if precision.cross_entropy == "chunked" else None,
    )


def build_model(
    model: ModelConfig, parallel: ParallelConfig, precision: PrecisionConfig, seq_length: int, rotary_base: int
) -> list[MTPGPTModel]:
    """All chunks of this pipeline rank, on its device; parallel groups must exist."""
    backend, _ = choose_backend(precision)
    check_engine_options(parallel, precision, backend)
    config = transformer_config(model, parallel, precision, backend)
    stages = parallel.virtual_pipeline_model_parallel_size
    chunks = [
        build_model_chunk(model, config, backend, seq_length, rotary_base, vp_stage, precision)
        for vp_stage in (range(stages) if stages else [None])
    ]
    for chunk in chunks:
        chunk.to(device=torch.cuda.current_device(), dtype=config.params_dtype)
    return chunks


def set_rotary_base(chunks: list[MTPGPTModel], rotary_base: int) -> None:
    """Replace the rotary embedding: the switch at a stage boundary (report section 3.3)."""
    for chunk in chunks:
        assert chunk.config.kv_channels is not None
        chunk.rotary_base = rotary_base
        chunk.rotary_pos_emb = RotaryEmbedding(
            kv_channels=chunk.config.kv_channels,
            rotary_percent=1.0,
            rotary_base=rotary_base,
            use_cpu_initialization=chunk.config.use_cpu_initialization,
            cp_group=chunk.pg_collection.cp,
        )


@contextmanager
def single_process_group() -> Iterator[None]:
    """Parallel groups of one process, for work that builds a model outside torchrun; existing groups are kept."""
    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    try:
        yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of the whole model; `mtp` holds what only the MTP layers have (the head and embedding are shared)."""

    main: int
    mtp: int

    @property
    def total(self) -> int:
        return self.main + self.mtp


def count_parameters(model: ModelConfig) -> ParameterCount:
    """Count the parameters of the megatron-core model, built on the meta device in one process."""
    cpu.install()
    with single_process_group(), torch.device("meta"):
        config = transformer_config(model, ParallelConfig(), PrecisionConfig(dtype="bf16", backend="torch"), "torch")
        config.use_cpu_initialization = True
        chunk = build_model_chunk(model, config, "torch", seq_length=1, rotary_base=10000, vp_stage=None)
    sizes = {name: parameter.numel() for name, parameter in chunk.named_parameters()}
    mtp = sum(size for name, size in sizes.items() if name.startswith("mtp."))
    return ParameterCount(main=sum(sizes.values()) - mtp, mtp=mtp)
