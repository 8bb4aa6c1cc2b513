"""Bytes a rank needs at the peak of a training step, by part.

Weights, gradients and optimizer: megatron-core's distributed optimizer holds 6 + 12/d bytes per parameter with bf16
weights and 8 + 8/d with fp32 ones, d = data-parallel x context-parallel size (its developer guide, "Distributed
Optimizer"). What other trainers save of it is in `Variant`. Activations: activations.py. Symbols: see workload.py.
"""

from dataclasses import dataclass

from megatron_mimo.config import ModelConfig
from megatron_mimo.model.torch_functions import LOSS_CHUNK_ROWS
from megatron_mimo.plan.activations import (
    final_norm_bytes,
    head_tensors,
    hidden_bytes,
    input_bytes,
    layer_bytes,
    mtp_layer_bytes,
    recursive_extra_bytes,
)
from megatron_mimo.plan.workload import FP32_BYTES, Workload

MOMENTS_BYTES = 8
MASTER_WEIGHT_BYTES = 4
FP8_WEIGHT_BYTES = 2
"""Transformer Engine keeps each linear weight in FP8, as it is and transposed: beside the bf16 weight, or instead."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes of one pipeline rank at the peak of a step. `phase` says when that is:

    "head": all activations are kept and the heads' logits live; "layer": the topmost layer runs backward;
    "reduction" (CPU alone): gloo copies the gradients before it reduces them.
    """

    pipeline_rank: int
    parameters: int
    phase: str
    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Kept by decoder and MTP layers, over all micro-batches in flight."""
    logits: float
    """Inputs, logits and fp32 softmax of the heads that live at the peak."""
    workspace: float
    """Gradients of activations and weights that live at the peak, gathered copies, and the micro-batch's inputs."""
    host: float = 0.0
    """Host memory while a checkpoint is written, where each rank writes its own share: weights and optimizer state of
    the model's copies are shared out over them. An offloaded optimizer's state lies there all the time besides."""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.workspace


def layer_parameters(model: ModelConfig, t: int = 1) -> int:
    """Parameters of one decoder layer on one of `t` tensor-parallel ranks; norms are whole on every rank."""
    query, key = (
        model.num_attention_heads * model.kv_channels,
        model.num_query_groups * model.kv_channels,
    )
    qkv = (model.hidden_size + 1) * (query + 2 * key)
    matrices = qkv + query * model.hidden_size + 3 * model.hidden_size * model.ffn_hidden_size
    return matrices // t + 2 * model.hidden_size


def mtp_layer_parameters(model: ModelConfig, t: int = 1) -> int:
    """Parameters of one MTP layer: projection [2h -> h], three norms, one decoder layer."""
    h = model.hidden_size
    return 2 * h * h // t + 3 * h + layer_parameters(model, t)


def model_parameters(model: ModelConfig) -> tuple[int, int]:
    """(main, MTP) parameters of the whole model in closed form; embedding and head belong to the main model."""
    ends = 2 * model.vocab_size * model.hidden_size + model.hidden_size
    main = ends + model.num_layers * layer_parameters(model)
    return main, model.mtp_num_layers * mtp_layer_parameters(model)


def rank_parameters(work: Workload, pipeline_rank: int) -> int:
    """Parameters that a rank of this pipeline rank holds.

    The first rank has the embedding; the last has final norm, head, MTP layers and, for these, its own embedding.
    """
    model, t = work.model, work.parallel.tensor_model_parallel_size
    vocabulary = model.vocab_size * model.hidden_size // t
    count = work.layers_per_rank * layer_parameters(model, t)
    last = work.is_last(pipeline_rank)
    if pipeline_rank == 0 or (last and model.mtp_num_layers):
        count += vocabulary
    if last:
        count += vocabulary + model.hidden_size + model.mtp_num_layers * mtp_layer_parameters(model, t)
    return count


def layers_in_flight(work: Workload, pipeline_rank: int) -> float:
    """Decoder layers x micro-batches whose activations a pipeline rank keeps at most (Narayanan et al., 2104.04473).

    1F1B: rank p keeps min(M, P - p) micro-batches. Interleaved: its warm-up of 2(P - p - 1) + (V - 1)P chunks and one.
    """
    size, chunks = work.parallel.pipeline_model_parallel_size, work.chunks_per_rank
    behind = size - pipeline_rank - 1
    warmup = behind if chunks == 1 else 2 * behind + (chunks - 1) * size
    in_flight = min(work.num_microbatches * chunks, warmup + 1)
    return in_flight * work.layers_per_rank / chunks


def estimate_memory(work: Workload, pipeline_rank: int) -> MemoryEstimate:
    """Peak bytes of a rank of `pipeline_rank`; hardware.py sets aside what CUDA and NCCL take."""
    parameters = rank_parameters(work, pipeline_rank)
    kept = kept_bytes(work, pipeline_rank)
    phases = [("layer", kept, 0.0, _layer_workspace(work, pipeline_rank))]
    if work.is_last(pipeline_rank):
        phases.append(("head", kept, *_logits_and_workspace(work)))
    if work.device == "cpu":
        phases.append(("reduction", 0.0, 0.0, float(work.gradient_bytes * parameters)))
    phase, activations, logits, workspace = max(phases, key=lambda item: sum(item[1:]))
    return MemoryEstimate(
        pipeline_rank=pipeline_rank,
        parameters=parameters,
        phase=phase,
        weights=_weight_bytes(work, parameters, pipeline_rank),
        gradients=work.gradient_bytes * parameters,
        optimizer=_optimizer_bytes(work, parameters) * (1 - work.variant.optimizer_offload_ratio),
        activations=activations,
        logits=logits,
        workspace=workspace + input_bytes(work),
        host=_host_bytes(work, parameters),
    )


def peak_memory(work: Workload) -> MemoryEstimate:
    """The estimate of the pipeline rank that needs most."""
    ranks = range(work.parallel.pipeline_model_parallel_size)
    return max(
        (estimate_memory(work, rank) for rank in ranks),
        key=lambda estimate: estimate.total,
    )


def _weight_bytes(work: Workload, parameters: int, pipeline_rank: int) -> float:
    weights = float(work.element_bytes * parameters)
    if work.fp8:
        layer = layer_parameters(work.model, work.parallel.tensor_model_parallel_size)
        decoder = work.layers_per_rank * layer
        mtp = work.model.mtp_num_layers * layer if work.is_last(pipeline_rank) else 0
        weights += FP8_WEIGHT_BYTES * (decoder + mtp)
        if work.fp8_primary_weights:
            # megatron-core makes the decoder's layers alone in FP8.
            weights -= work.element_bytes * decoder
    return weights


def _optimizer_bytes(work: Workload, parameters: int) -> float:
    """Two fp32 moments, and an fp32 copy of bf16 weights, shared out over data- and context-parallel ranks."""
    master = MASTER_WEIGHT_BYTES if work.element_bytes == 2 else 0
    ranks = work.data_parallel_size * work.parallel.context_parallel_size
    return (MOMENTS_BYTES + master) * parameters / ranks


def _host_bytes(work: Workload, parameters: int) -> float:
    optimizer = _optimizer_bytes(work, parameters)
    copies = work.data_parallel_size * work.parallel.context_parallel_size
    offloaded = work.variant.optimizer_offload_ratio * optimizer
    return optimizer + work.element_bytes * parameters / copies + offloaded


def kept_bytes(work: Workload, pipeline_rank: int) -> float:
    """Activations that decoder, MTP layers and final norm keep on a rank, over all micro-batches in flight."""
    again = work.recomputed_layers / work.layers_per_rank
    usual = "selective" if work.parallel.recompute == "selective" else "none"
    layer = again * layer_bytes(work, "full") + (1 - again) * layer_bytes(work, usual)
    kept = layers_in_flight(work, pipeline_rank) * layer
    if work.is_last(pipeline_rank):
        mtp = mtp_layer_bytes(work, "full" if work.recomputes_mtp else usual)
        kept += final_norm_bytes(work) + work.model.mtp_depths * mtp + recursive_extra_bytes(work)
    return kept


def _logits_and_workspace(work: Workload) -> tuple[float, float]:
    """All heads have run forward: the softmaxes live, beside the last logits or a head's weight gradient."""
    if work.head_slab is not None:
        return _chunked_heads(work, work.head_slab)
    heads = 1 + work.model.mtp_depths
    tensors = head_tensors(work)
    t, a = work.parallel.tensor_model_parallel_size, work.element_bytes
    logits_copy = a * work.model.vocab_size / t * work.rank_tokens
    weight_gradient = a * work.model.vocab_size * work.model.hidden_size / t
    inputs, softmaxes = heads * tensors["head input"], heads * tensors["softmax"]
    # fp32 logits turn into the softmax, and the softmax into their gradient, in place.
    forward = softmaxes + (logits_copy if a == 2 and not work.fused_cross_entropy else 0)
    backward = softmaxes - tensors["softmax"] + logits_copy + hidden_bytes(work) + weight_gradient
    # Gradients of the shared head wait for each other before they are added up.
    last = logits_copy + heads * weight_gradient
    if work.loss_in_place:
        # bf16 rows are copied in fp32, and the softmax of some rows outlives the next ones' copy.
        forward = softmaxes + (3 if a == 2 else 2) * FP32_BYTES * LOSS_CHUNK_ROWS * work.model.vocab_size
    peak = max(forward, backward, last)
    live = softmaxes if peak == forward else 0.0
    return inputs + live, peak - live + _gathered_input(work)


def _chunked_heads(work: Workload, slab: int) -> tuple[float, float]:
    """The first head to run backward has its weight's gradient, the last one those of all, beside one slab.

    Of a slab there are its logits, their gradient, the gradient of the slab before, and in bf16 an fp32 copy. The
    gradient of the hidden states is summed in fp32. (Fused kernels on GPUs need less.)
    """
    heads, a, t = 1 + work.model.mtp_depths, work.element_bytes, work.parallel.tensor_model_parallel_size
    kept = heads * sum(head_tensors(work).values())
    logits = work.rank_tokens * slab * (3 * a + FP32_BYTES if a == 2 else 2 * a)
    hidden_gradient = work.rank_tokens * work.model.hidden_size * FP32_BYTES
    weight_gradients = heads * a * work.model.vocab_size * work.model.hidden_size / t
    return kept + logits, hidden_gradient + weight_gradients + _gathered_input(work)


def _layer_workspace(work: Workload, pipeline_rank: int) -> float:
    """The topmost layer runs backward, net of what its own operations have released by then.

    Through the down projection: gradients of its output [T, h], input [T, f/t] and weight; one operation later: of the
    layer's output and of both SwiGLU factors. Full recomputation has remade the layer's tensors before.
    """
    model, a, t = (
        work.model,
        work.element_bytes,
        work.parallel.tensor_model_parallel_size,
    )
    has_mtp = work.is_last(pipeline_rank) and model.mtp_num_layers > 0
    inner, weight = (model.ffn_hidden_size / t * size for size in (work.rank_tokens, model.hidden_size))
    workspace = hidden_bytes(work) + a * max(inner + weight, 2 * inner) + _gathered_input(work)
    if work.recomputed_layers == work.layers_per_rank:
        workspace += mtp_layer_bytes(work, "none") if has_mtp else layer_bytes(work, "none")
    if has_mtp:
        # The embedding's gradient from the MTP layers waits for the one from the bottom of the decoder.
        workspace += a * model.vocab_size * model.hidden_size / t
    return workspace


def _gathered_input(work: Workload) -> float:
    """Under sequence parallelism one whole hidden state is gathered around each tensor-parallel product."""
    if work.sequence_parallel_size == 1:
        return 0.0
    return float(work.element_bytes * work.model.hidden_size * work.rank_tokens)
