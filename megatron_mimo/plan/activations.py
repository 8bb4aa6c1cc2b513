"""Bytes that one forward pass leaves for the backward pass, tensor by tensor, on one rank and micro-batch.

The method is Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (arXiv:2205.05198,
section 4): list what autograd keeps of each operation. Here the layer has RMSNorm, grouped-query attention with a
fused core, SwiGLU and no dropout, and the two backends keep nearly the same of it: Transformer Engine rotates queries
and keys in place of a copy, and its SwiGLU keeps its input alone.

Symbols: see workload.py.
"""

from typing import Literal

from megatron_mimo.model.product_attention import blocks
from megatron_mimo.plan.workload import FP32_BYTES, Workload

Recompute = Literal["none", "selective", "full"]


def layer_tensors(work: Workload) -> dict[str, float]:
    """Bytes kept of one decoder layer without recomputation, by tensor; their sum is the layer's activation memory."""
    return _attention_tensors(work) | _attention_core_tensors(work) | _mlp_tensors(work)


def layer_bytes(work: Workload, recompute: Recompute) -> float:
    """Bytes kept of one decoder layer under a choice of recomputation."""
    if recompute == "full":
        return hidden_bytes(work)
    tensors = layer_tensors(work)
    if recompute == "selective":
        tensors = _attention_tensors(work) | _attention_core_inputs(work) | _mlp_tensors(work)
    return sum(tensors.values())


def mtp_layer_bytes(work: Workload, recompute: Recompute) -> float:
    """Bytes kept of one MTP layer: next-token embedding, two norms, projection, decoder layer, final norm's input.

    The norm of the hidden state shares its input with the main model's final norm. Full recomputation repeats the whole
    MTP layer from embedding and hidden state.
    """
    if recompute == "full":
        return hidden_bytes(work)
    norms = 3 * _norm_operands(work) - hidden_bytes(work)
    return norms + 2 * _linear_input(work) + layer_bytes(work, recompute)


def recursive_extra_bytes(work: Workload) -> float:
    """Bytes that draft steps 2 to K of a recursive MTP layer keep beyond a step of a layer of its own: the keys and
    values of the steps before, joined, and the mask's columns for them."""
    earlier = sum(range(work.model.mtp_recursive_steps))
    a, b = work.element_bytes, work.micro_batch_size
    return earlier * a * (2 * _key(work) + b * work.seq_length**2)


def head_tensors(work: Workload) -> dict[str, float]:
    """Bytes kept of one application of the output head to one micro-batch.

    megatron-core's vocabulary-parallel cross entropy keeps the softmax in fp32; on a CPU that has the whole vocabulary
    the gradient takes the place of the logits. Chunked heads keep one number a token, and their input gathered whole
    under sequence parallelism.
    """
    if work.head_slab is not None:
        gathered = hidden_bytes(work) * work.sequence_parallel_size
        return {"head input": gathered, "softmax": 0.0, "log-sum-exp and labels": (FP32_BYTES + 8) * work.rank_tokens}
    v = work.model.vocab_size / work.parallel.tensor_model_parallel_size
    kept = work.element_bytes if work.loss_in_place or work.fused_cross_entropy else FP32_BYTES
    return {"head input": hidden_bytes(work), "softmax": kept * v * work.rank_tokens}


def final_norm_bytes(work: Workload) -> float:
    """Bytes kept of the main model's final norm."""
    return _norm_operands(work)


def input_bytes(work: Workload) -> float:
    """Bytes of one micro-batch's inputs: token and position ids, labels, rotary angles, the torch backend's mask."""
    ids = 8 * (3 + work.model.mtp_num_layers) * work.rank_tokens
    angles = FP32_BYTES * work.model.kv_channels * _angle_places(work)
    return ids + angles + (work.rank_tokens * work.seq_length if work.document_attention == "mask" else 0)


def _attention_tensors(work: Workload) -> dict[str, float]:
    """Kept outside the attention core, which selective recomputation does not repeat."""
    tensors = {
        "attention norm": _norm_operands(work),
        "query/key/value input": _linear_input(work),
        "attention output": _query(work) * (work.element_bytes + (1 if work.fp8 else 0)),
    }
    if work.backend == "torch":
        tensors["rotary cosines and sines"] = 2 * work.element_bytes * work.model.kv_channels * _angle_places(work)
    return tensors


def _attention_core_inputs(work: Workload) -> dict[str, float]:
    ranks = work.parallel.context_parallel_size if work.gathers_keys else 1
    return {"query, key, value": work.element_bytes * (_query(work) + 2 * _key(work) * ranks)}


def _attention_core_tensors(work: Workload) -> dict[str, float]:
    """Kept by the attention core, its inputs included."""
    a, parallel = work.element_bytes, work.parallel
    heads = work.model.num_attention_heads / parallel.tensor_model_parallel_size
    if work.attention_by_products:
        # Contiguous copies of its own; the weights are those of all visible blocks.
        inputs = a * (_query(work) + 2 * _key(work) * parallel.context_parallel_size)
        queries = work.seq_length // parallel.context_parallel_size
        visible = sum((rows.stop - rows.start) * keys for rows, keys in blocks(queries, work.seq_length, a))
        tensors = {"query, key, value": inputs, "attention weights": a * heads * work.micro_batch_size * visible}
        return tensors | ({"softmax sums": FP32_BYTES * heads * work.rank_tokens} if a == FP32_BYTES else {})
    tensors = _attention_core_inputs(work) | {"softmax log-sum-exp": FP32_BYTES * heads * work.rank_tokens}
    if work.backend == "transformer_engine":
        return tensors
    if work.document_attention == "packed":
        tensors["attention output of each document"] = a * _query(work)
        if parallel.context_parallel_size > 1:
            # At most, where one document fills the row: each piece of the queries over the keys up to its end.
            pieces = 2 * parallel.context_parallel_size
            cut = (pieces + 1) * (work.seq_length / pieces) ** 2
            tensors["additive mask of documents that are cut"] = a * work.micro_batch_size * cut
        return tensors
    tensors["attention output by heads"] = a * _query(work)
    if parallel.context_parallel_size > 1 or work.document_attention == "mask":
        masks = work.micro_batch_size if work.document_attention == "mask" else 1
        tensors["additive mask"] = a * masks * work.seq_length**2 / parallel.context_parallel_size
    return tensors


def _angle_places(work: Workload) -> float:
    """Places of a rank with rotary angles of their own: those of one row, or where documents restart them, of all."""
    return work.rank_tokens / (1 if work.document_attention == "packed" else work.micro_batch_size)


def _query(work: Workload) -> float:
    """Elements of a layer's queries on this rank."""
    heads = work.model.num_attention_heads / work.parallel.tensor_model_parallel_size
    return heads * work.model.kv_channels * work.rank_tokens


def _key(work: Workload) -> float:
    """Elements of a layer's keys on this rank."""
    groups = work.model.num_query_groups / work.parallel.tensor_model_parallel_size
    return groups * work.model.kv_channels * work.rank_tokens


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
        tensors["silu of the gate"] = a * inner
    return tensors


def hidden_bytes(work: Workload) -> float:
    """One hidden state [T, h], cut along the sequence under sequence parallelism."""
    return work.element_bytes * work.model.hidden_size * work.rank_tokens / work.sequence_parallel_size


def _linear_input(work: Workload) -> float:
    """A norm's output, kept as the input of a matrix product: one byte an element in FP8."""
    return hidden_bytes(work) / work.element_bytes if work.fp8 else hidden_bytes(work)


def _norm_operands(work: Workload) -> float:
    """Kept of one RMSNorm, without its output: its input, and 1/rms where the backend does not compute it again."""
    if work.backend == "torch":
        return hidden_bytes(work)
    return hidden_bytes(work) + FP32_BYTES * work.rank_tokens / work.sequence_parallel_size
