"""The one list of operations between megatron-core's names of MiMo's weights and Hugging Face's.

Everything about the conversion follows from it: export, import, what shape each tensor must have on each side, and
what each tensor-parallel rank holds.
"""

from dataclasses import replace

import torch

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.ops import (
    FusedGateUp,
    FusedQKV,
    Op,
    PaddedVocabulary,
    Rename,
    SwappedHalves,
    to_megatron,
)
from megatron_mimo.model.reference import ReferenceMiMo

Shapes = dict[str, tuple[int, ...]]


def mimo_ops(config: ModelConfig, vocab_size: int | None = None) -> list[Op]:
    """Operations in the order of the forward pass; `vocab_size` is Hugging Face's when it has fewer rows."""
    rows = config.vocab_size if vocab_size is None else vocab_size
    return [
        _vocabulary("embedding.word_embeddings.weight", "model.embed_tokens.weight", rows, config.vocab_size),
        *(op for i in range(config.num_layers) for op in _layer(config, f"decoder.layers.{i}.", f"model.layers.{i}.")),
        Rename(("final_layernorm.weight",), ("model.norm.weight",)),
        _vocabulary("output_layer.weight", "lm_head.weight", rows, config.vocab_size),
        *(op for i in range(config.mtp_num_layers) for op in _mtp_layer(config, i)),
    ]


def _vocabulary(megatron: str, hugging_face: str, rows: int, padded_rows: int) -> Op:
    return PaddedVocabulary((megatron,), (hugging_face,), rows, padded_rows, tensor_parallel_axis=0)


def _layer(config: ModelConfig, megatron: str, hugging_face: str) -> list[Op]:
    attention, mlp = megatron + "self_attention.", megatron + "mlp."
    return [
        _rename(attention + "linear_qkv.layer_norm_weight", hugging_face + "input_layernorm.weight"),
        *(_qkv(config, attention, hugging_face, kind) for kind in ("weight", "bias")),
        _rename(attention + "linear_proj.weight", hugging_face + "self_attn.o_proj.weight", tensor_parallel_axis=1),
        _rename(mlp + "linear_fc1.layer_norm_weight", hugging_face + "post_attention_layernorm.weight"),
        FusedGateUp(
            (mlp + "linear_fc1.weight",),
            (hugging_face + "mlp.gate_proj.weight", hugging_face + "mlp.up_proj.weight"),
            tensor_parallel_axis=0,
        ),
        _rename(mlp + "linear_fc2.weight", hugging_face + "mlp.down_proj.weight", tensor_parallel_axis=1),
    ]


def _qkv(config: ModelConfig, attention: str, hugging_face: str, kind: str) -> Op:
    return FusedQKV(
        (f"{attention}linear_qkv.{kind}",),
        tuple(f"{hugging_face}self_attn.{part}_proj.{kind}" for part in "qkv"),
        num_query_groups=config.num_query_groups,
        heads_per_group=config.num_attention_heads // config.num_query_groups,
        tensor_parallel_axis=0,
    )


def _mtp_layer(config: ModelConfig, index: int) -> list[Op]:
    """Megatron projects [embedding, hidden state], MiMo [hidden state, embedding]: the halves swap places."""
    megatron, hugging_face = f"mtp.layers.{index}.", f"model.mtp_layers.{index}."
    return [
        _rename(megatron + "enorm.weight", hugging_face + "token_layernorm.weight"),
        _rename(megatron + "hnorm.weight", hugging_face + "hidden_layernorm.weight"),
        SwappedHalves((megatron + "eh_proj.weight",), (hugging_face + "input_proj.weight",), tensor_parallel_axis=0),
        *_layer(config, megatron + "transformer_layer.", hugging_face),
        _rename(megatron + "final_layernorm.weight", hugging_face + "final_layernorm.weight"),
    ]


def _rename(megatron: str, hugging_face: str, tensor_parallel_axis: int | None = None) -> Op:
    return Rename((megatron,), (hugging_face,), tensor_parallel_axis=tensor_parallel_axis)


def hugging_face_shapes(config: ModelConfig, vocab_size: int | None = None) -> Shapes:
    """Name and shape of every tensor of the Hugging Face folder, as the reference model has them.

    `vocab_size` is Hugging Face's where Megatron pads the vocabulary.
    """
    with torch.device("meta"):
        model = ReferenceMiMo(replace(config, vocab_size=vocab_size or config.vocab_size), rotary_base=1)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def megatron_shapes(config: ModelConfig) -> Shapes:
    """Name and shape of every tensor of the Megatron model, layers unstacked: the operations run on shapes alone."""
    shapes = hugging_face_shapes(config)
    tensors = to_megatron(mimo_ops(config), lambda name: torch.empty(shapes[name], device="meta"))
    return {name: tuple(tensor.shape) for name, tensor in tensors}
