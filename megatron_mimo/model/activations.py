"""Bytes that one forward pass leaves for the backward pass, tensor by tensor, on one rank and micro-batch.

The method is Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (arXiv:2205.05198,
section 4): list what autograd keeps of each operation. Here the layer has RMSNorm, grouped-query attention with a
fused core, SwiGLU and no dropout, and the two backends keep different things:

- Transformer Engine fuses the norm into the linear layer (kept: the norm's input and output), rotates in place of a
  copy, and computes SwiGLU in one kernel (kept: its input).
- torch composes them of single operations, and each keeps its own operands.

Symbols: see workload.py.
"""

from typing import Literal

from megatron_mimo.model.workload import Workload

Recompute = Literal["none", "selective", "full"]

FP32_BYTES = 4

INSIDE_ATTENTION_CORE = (
    "softmax log-sum-exp",
    "additive mask",
    "attention weights",
    "attention output of each document",
)
"""What selective recomputation does not keep; little, since a fused core keeps no scores."""


def layer_tensors(work: Workload) -> dict[str, float]:
    """Bytes kept of one decoder layer without recomputation, by tensor; their sum is the layer's activation memory."""
    return _attention_tensors(work) | _mlp_tensors(work)


def layer_bytes(work: Workload, recompute: Recompute) -> float:
    """Bytes kept of one decoder layer under a choice of recomputation."""
    if recompute == "full":
        return hidden_bytes(work)
    tensors = layer_tensors(work)
    if recompute == "selective":
        return sum(size for name, size in tensors.items() if name not in INSIDE_ATTENTION_CORE)
    return sum(tensors.values())


def mtp_layer_bytes(work: Workload, recompute: Recompute) -> float:
    """Bytes kept of one MTP layer: next-token embedding, two norms, projection, decoder layer, final norm's input.

    The norm of the hidden state shares its input with the main model's final norm, except where the torch backend
    makes an fp32 copy of its own. Full recomputation repeats the whole MTP layer from embedding and hidden state.
    """
    if recompute == "full":
        return hidden_bytes(work)
    hidden_norm = _norm_operands(work) - (0 if _norm_copies_input(work) else hidden_bytes(work))
    return 2 * _norm_operands(work) + hidden_norm + 2 * _linear_input(work) + layer_bytes(work, recompute)


def head_tensors(work: Workload) -> dict[str, float]:
    """Bytes kept of one application of the output head to one micro-batch.

    megatron-core's vocabulary-parallel cross entropy keeps the softmax in fp32; label and mask are bytes.
    """
    v = work.model.vocab_size / work.parallel.tensor_model_parallel_size
    return {
        "head input": hidden_bytes(work),
        "softmax": FP32_BYTES * v * work.rank_tokens,
    }


def final_norm_bytes(work: Workload, recompute: Recompute) -> float:
    """Bytes kept of the main model's final norm, and of its input where recomputed MTP layers need it as it is."""
    for_mtp = recompute == "full" and work.model.mtp_num_layers > 0 and _norm_copies_input(work)
    return _norm_operands(work) + (hidden_bytes(work) if for_mtp else 0)


def input_bytes(work: Workload) -> float:
    """Bytes of one micro-batch's inputs: token and position ids, labels, rotary angles, the torch backend's mask."""
    ids = 8 * (3 + work.model.mtp_num_layers) * work.rank_tokens
    angles = FP32_BYTES * work.model.kv_channels * work.rank_tokens / work.micro_batch_size
    return ids + angles + (work.rank_tokens * work.seq_length if work.document_attention == "mask" else 0)


def _attention_tensors(work: Workload) -> dict[str, float]:
    t, cp = (
        work.parallel.tensor_model_parallel_size,
        work.parallel.context_parallel_size,
    )
    m, a, tokens = work.model, work.element_bytes, work.rank_tokens
    query = m.num_attention_heads * m.kv_channels / t * tokens
    key = m.num_query_groups * m.kv_channels / t * tokens
    tensors = {
        "attention norm": _norm_operands(work),
        "query/key/value input": _linear_input(work),
        "attention output": query * (a + (1 if work.fp8 else 0)),
        "softmax log-sum-exp": FP32_BYTES * m.num_attention_heads / t * tokens,
    }
    if work.backend == "transformer_engine":
        return tensors | {"query, key, value": a * (query + 2 * key)}
    tensors["rotary cosines and sines"] = 4 * a * m.kv_channels * tokens / work.micro_batch_size
    if cp > 1:
        # Keys and values of the whole sequence, gathered; the mask holds this rank's rows.
        tensors["query, key, value"] = a * (query + 2 * key * cp)
    else:
        # The value is a view into the joint projection's output, which therefore stays beside the rotated copies.
        tensors["query, key, value"] = a * (query + key) + a * (query + 2 * key)
    if work.attention_by_products:
        del tensors["softmax log-sum-exp"]
        tensors["attention weights"] = a * m.num_attention_heads / t * tokens * work.seq_length
    elif work.document_attention == "packed":
        tensors["attention output of each document"] = a * query
    elif cp > 1 or work.document_attention == "mask":
        masks = work.micro_batch_size if work.document_attention == "mask" else 1
        tensors["additive mask"] = a * masks * (work.seq_length / cp) * work.seq_length
    return tensors


def _mlp_tensors(work: Workload) -> dict[str, float]:
    t, a = work.parallel.tensor_model_parallel_size, work.element_bytes
    inner = work.model.ffn_hidden_size / t * work.rank_tokens
    tensors = {
        "MLP norm": _norm_operands(work),
        "gate and up input": _linear_input(work),
        "gate and up": 2 * a * inner,
        "SwiGLU output": (1 if work.fp8 else a) * inner,
    }
    if work.backend == "torch":
        # silu(gate), and up + 0.0: megatron-core adds its linear offset even where it is zero.
        tensors["SwiGLU factors"] = 2 * a * inner
    return tensors


def hidden_bytes(work: Workload) -> float:
    """One hidden state [T, h], cut along the sequence under sequence parallelism."""
    return work.element_bytes * work.model.hidden_size * work.rank_tokens / work.sequence_parallel_size


def _linear_input(work: Workload) -> float:
    """A norm's output, kept as the input of a matrix product: one byte an element in FP8."""
    return hidden_bytes(work) / work.element_bytes if work.fp8 else hidden_bytes(work)


def _norm_copies_input(work: Workload) -> bool:
    return work.backend == "torch" and work.element_bytes != FP32_BYTES


def _norm_operands(work: Workload) -> float:
    """Kept of one RMSNorm, without its output: input and 1/rms; torch also keeps the normalized input, both in fp32."""
    tokens = work.rank_tokens / work.sequence_parallel_size
    if work.backend == "transformer_engine":
        return hidden_bytes(work) + FP32_BYTES * tokens
    return 2 * FP32_BYTES * work.model.hidden_size * tokens + FP32_BYTES * tokens
