"""Bytes a rank sends in one training step, the time links need for them, and the part no computation hides.

Volumes are those of ring algorithms: an all-gather or reduce-scatter of N bytes over p ranks sends N(p-1)/p a rank, an
all-reduce twice that. What megatron-core overlaps with computation is stated with each kind. Latency is not modelled.
Rank order is megatron-core's: tensor, context, data, pipeline parallel from the inside out. Symbols: see workload.py.
"""

from dataclasses import dataclass

from megatron_mimo.plan.activations import hidden_bytes
from megatron_mimo.plan.hardware import GPU
from megatron_mimo.plan.memory import layer_parameters, rank_parameters
from megatron_mimo.plan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """One kind of communication of a rank in a step."""

    kind: str
    sent_bytes: float
    seconds: float
    exposed_seconds: float
    how: str
    """Collectives, and what hides them."""


def tensor_parallel_traffic(work: Workload, gpu: GPU, pipeline_rank: int) -> Traffic:
    """Collectives of whole hidden states around the tensor-parallel products.

    In units of N(t-1)/t, N one hidden state, a layer sends with sequence parallelism 4 forward (all-gather and
    reduce-scatter around attention and MLP) and 6 backward (the gathered inputs are not kept); those of its
    column-parallel products run beside a matrix product (Korthikanti et al., section 4.2.2), so 2 stay exposed.
    Without it, 4 forward and 4 backward as all-reduces, the backward ones beside the weight gradients. An embedding
    costs 2, a head 3 (2 without), an MTP layer also its embedding and the products and output of its projection
    [2h -> h]: 3 forward and 5 backward (1 and 4). Full recomputation repeats the forward ones of layers.
    """
    t, mtp = work.parallel.tensor_model_parallel_size, work.model.mtp_depths
    sequence = work.parallel.sequence_parallel
    backward, backward_exposed = (6, 2) if sequence else (4, 0)
    layers, again, ends = work.layers_per_rank, work.recomputed_layers, 2 if pipeline_rank == 0 else 0
    project = (3 if sequence else 1) * (2 if work.recomputes_mtp else 1) + (5 if sequence else 4)
    if work.is_last(pipeline_rank):
        layers += mtp
        again += mtp if work.recomputes_mtp else 0
        ends += (3 if sequence else 2) * (1 + mtp) + mtp * (2 + project)
    unit = work.element_bytes * work.model.hidden_size * work.rank_tokens * (t - 1) / t
    sent = unit * work.num_microbatches * (layers * (4 + backward) + 4 * again + ends)
    # With user buffers what a layer sends runs in pieces beside the product that it belongs to.
    layers_exposed = 0 if work.parallel.overlap_tensor_parallel else layers * (4 + backward_exposed) + 4 * again
    exposed = unit * work.num_microbatches * (layers_exposed + ends)
    rate = gpu.group_bytes_per_second(t, stride=1)
    how = "all-gather + reduce-scatter" if work.parallel.sequence_parallel else "all-reduce"
    return Traffic(
        kind="tensor parallel",
        sent_bytes=sent,
        seconds=sent / rate,
        exposed_seconds=exposed / rate,
        how=how
        + (
            "; in pieces beside matrix products"
            if work.parallel.overlap_tensor_parallel
            else "; forward exposed, backward mostly beside matrix products"
        ),
    )


def context_parallel_traffic(work: Workload, gpu: GPU, pipeline_rank: int, attention_seconds: float) -> Traffic:
    """Keys and values of the other context-parallel ranks, and their gradients.

    Of rows without documents Transformer Engine passes them around a ring beside the attention core, whose time in the
    step is `attention_seconds`: once forward, twice backward (Ring Attention, arXiv:2310.01889). Of packed documents,
    and with the torch backend, they are all-gathered before the core and their gradients reduce-scattered after it,
    both exposed; recomputation of the core gathers them again.
    """
    parallel, model = work.parallel, work.model
    others = parallel.context_parallel_size - 1
    ring = not work.gathers_keys
    key = model.num_query_groups * model.kv_channels / parallel.tensor_model_parallel_size
    mtp = model.mtp_depths if work.is_last(pipeline_rank) else 0
    layers = work.layers_per_rank + mtp
    again = work.recomputed_layers + (mtp if work.recomputes_mtp else 0)
    if parallel.recompute == "selective" and not ring:
        again = layers
    passes = layers * (3 if ring else 2) + again
    sent = work.num_microbatches * passes * others * 2 * work.element_bytes * key * work.rank_tokens
    rate = gpu.group_bytes_per_second(parallel.context_parallel_size, stride=parallel.tensor_model_parallel_size)
    seconds = sent / rate
    return Traffic(
        kind="context parallel",
        sent_bytes=sent,
        seconds=seconds,
        exposed_seconds=max(0.0, seconds - attention_seconds) if ring else seconds,
        how="ring of keys and values beside the attention core" if ring else "all-gather of keys and values, exposed",
    )


def pipeline_traffic(work: Workload, gpu: GPU) -> Traffic:
    """One hidden state forward and its gradient backward, a micro-batch and chunk, to the neighbour; all exposed.

    With MTP layers the first and last rank also add up the gradients of their two embeddings once per step.
    """
    parallel = work.parallel
    size = parallel.pipeline_model_parallel_size
    stride = work.world_size // size
    sent = 2 * work.num_microbatches * work.chunks_per_rank * hidden_bytes(work) if size > 1 else 0.0
    if size > 1 and work.model.mtp_num_layers:
        vocabulary = work.model.vocab_size * work.model.hidden_size
        sent += work.gradient_bytes * vocabulary / parallel.tensor_model_parallel_size
    seconds = sent / gpu.link_bytes_per_second(size * stride)
    return Traffic(
        kind="pipeline parallel",
        sent_bytes=sent,
        seconds=seconds,
        exposed_seconds=seconds,
        how="point to point, exposed",
    )


def data_parallel_traffic(work: Workload, gpu: GPU, pipeline_rank: int, overlap_seconds: float) -> Traffic:
    """Reduce-scatter of gradients and all-gather of weights over data- and context-parallel ranks.

    Buckets go out during the last micro-batch's backward pass and come in during the first one's forward pass: hidden
    as long as one micro-batch's `overlap_seconds` last, except for the last bucket, about one layer of the rank.
    """
    ranks = work.data_parallel_size * work.parallel.context_parallel_size
    parameters = rank_parameters(work, pipeline_rank)
    weights = float(work.element_bytes * parameters)
    if work.fp8_primary_weights:
        # They travel in FP8: one byte in place of two.
        layer = layer_parameters(work.model, work.parallel.tensor_model_parallel_size)
        weights -= (work.element_bytes - 1) * work.layers_per_rank * layer
    sent = (work.gradient_bytes * parameters + weights) * (ranks - 1) / ranks
    rate = gpu.group_bytes_per_second(ranks, stride=work.parallel.tensor_model_parallel_size)
    seconds = sent / rate
    return Traffic(
        kind="data parallel",
        sent_bytes=sent,
        seconds=seconds,
        exposed_seconds=max(seconds / max(1, work.layers_per_rank), seconds - overlap_seconds),
        how=f"{'fp32' if work.gradient_bytes == 4 else 'bf16'} reduce-scatter, weight all-gather,"
        " beside one micro-batch",
    )
