"""From token rows to what the model takes: shifted labels per depth, positions, document masks, context-parallel cut.

Shapes: `s`equence (whole), `b`atch (micro-batch), `D` MTP layers.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from torch import Tensor

from megatron_mimo.config import ConfigError, PretrainConfig, StageConfig
from megatron_mimo.model.torch_layers import zigzag_positions


@dataclass
class Batch:
    """One micro-batch on the rank's device, already cut to its context-parallel share of the sequence."""

    tokens: Tensor
    """[b, s] input tokens."""
    position_ids: Tensor
    """[b, s] positions; they restart at each document with intra-document attention."""
    labels: Tensor
    """[1+D, b, s]; labels[d] is the token d+1 places ahead."""
    loss_mask: Tensor
    """[1+D, b, s] fp32; 0 where labels[d] lies beyond the sample. By rows of the data, packed or not."""
    attention_mask: Tensor | None
    """bool [b, 1, s, S], True where attention may look; None for plain causal or packed attention."""
    cu_seqlens: Tensor | None
    """int32 [documents + 1] bounds of a packed row's documents; None otherwise."""
    source: Tensor
    """[b] index of the data source of each row of the data."""


DocumentAttention = Literal["ignore", "mask", "packed"]
"""Documents that share a row: plain causal attention over all of them, a dense mask, or bounds of documents.

With bounds the rows of a micro-batch follow each other in one row: `tokens`, `position_ids` and `labels` of a Batch
have [1, b*s] for [b, s].
"""
MAX_MASKED_SEQ_LENGTH = 2048
"""A dense mask grows with the square of the sequence; beyond this length a packed row is cheaper."""


def choose_document_attention(
    intra_document: bool, backend: str, seq_length: int, micro_batch_size: int, context_parallel_size: int
) -> DocumentAttention:
    """How to keep attention inside documents; raises ConfigError where the backend cannot."""
    if not intra_document:
        return "ignore"
    if backend == "transformer_engine" and context_parallel_size > 1:
        raise ConfigError(
            "data.intra_document_attention",
            True,
            "Transformer Engine cannot cut packed documents over context-parallel ranks: set it to false, or"
            " parallel.context_parallel_size=1",
        )
    single = micro_batch_size == 1 and context_parallel_size == 1
    if backend == "transformer_engine" or (single and seq_length > MAX_MASKED_SEQ_LENGTH):
        return "packed"
    return "mask"


def model_shape(attention: DocumentAttention, micro_batch_size: int, seq_length: int) -> tuple[int, int]:
    """(b, s) of what the model sees of a micro-batch."""
    return (1, micro_batch_size * seq_length) if attention == "packed" else (micro_batch_size, seq_length)


def document_attention(config: PretrainConfig, stage: StageConfig, backend: str) -> DocumentAttention:
    """`choose_document_attention` for a stage of a run; draft steps of a recursive MTP layer always take a mask."""
    if config.model.mtp_recursive_steps > 1:
        if backend == "transformer_engine":
            raise ConfigError(
                "model.mtp_recursive_steps",
                config.model.mtp_recursive_steps,
                "is trained with torch layers, and Transformer Engine was chosen: set precision.backend=torch",
            )
        return "mask" if config.data.intra_document_attention else "ignore"
    return choose_document_attention(
        config.data.intra_document_attention,
        backend,
        stage.seq_length,
        stage.micro_batch_size,
        config.parallel.context_parallel_size,
    )


def make_batch(rows: dict[str, Tensor], mtp_num_layers: int, eod_token_id: int, attention: DocumentAttention) -> Batch:
    """The loader's rows -> the whole-sequence Batch; positions restart with each document unless ignored.

    rows: `tokens` [b, s+1], `source` [b]; packed samples bring `segments` [b, s+1], which take the documents' place and
    end what is predicted, and `loss_mask` [b, s+1].
    """
    tokens = rows["tokens"][:, :-1].contiguous()
    b, s = tokens.shape
    labels, loss_mask = shifted_labels(rows["tokens"], 1 + mtp_num_layers)
    if "segments" in rows:
        loss_mask *= sample_loss_mask(rows["segments"], rows["loss_mask"], 1 + mtp_num_layers)
    position_ids, attention_mask, cu_seqlens = torch.arange(s).expand(b, s).contiguous(), None, None
    if attention != "ignore":
        document_ids = rows["segments"][:, :-1] if "segments" in rows else documents(tokens, eod_token_id)
        position_ids = document_positions(document_ids)
        attention_mask = document_mask(document_ids) if attention == "mask" else None
        if attention == "packed":
            cu_seqlens = document_bounds(position_ids)
            tokens, position_ids, labels = tokens.view(1, -1), position_ids.view(1, -1), labels.flatten(1).unsqueeze(1)
    return Batch(tokens, position_ids, labels, loss_mask, attention_mask, cu_seqlens, rows["source"])


def shifted_labels(rows: Tensor, depths: int) -> tuple[Tensor, Tensor]:
    """rows [b, s+1] -> labels [depths, b, s] and their mask: depth d predicts rows[:, i+1+d] at position i."""
    b, s = rows.shape[0], rows.shape[1] - 1
    labels = rows.new_zeros(depths, b, s)
    loss_mask = torch.zeros(depths, b, s)
    for depth in range(depths):
        labels[depth, :, : s - depth] = rows[:, 1 + depth :]
        loss_mask[depth, :, : s - depth] = 1.0
    return labels, loss_mask


def sample_loss_mask(segments: Tensor, loss_mask: Tensor, depths: int) -> Tensor:
    """[b, s+1] twice -> fp32 [depths, b, s]: 1 where the predicted token is worth learning and of the same sample."""
    b, s = segments.shape[0], segments.shape[1] - 1
    mask = torch.zeros(depths, b, s)
    for depth in range(depths):
        same = segments[:, 1 + depth :] == segments[:, : s - depth]
        mask[depth, :, : s - depth] = (same & loss_mask[:, 1 + depth :]).float()
    return mask


def documents(tokens: Tensor, eod_token_id: int) -> Tensor:
    """[b, s] -> [b, s] index of the document in its row; the end-of-document token belongs to its document."""
    ends = (tokens == eod_token_id).long()
    return ends.cumsum(dim=1) - ends


def document_positions(document_ids: Tensor) -> Tensor:
    """[b, s] document indices -> [b, s] positions that restart at 0 with each document."""
    b, s = document_ids.shape
    index = torch.arange(s).expand(b, s)
    starts = torch.ones_like(document_ids, dtype=torch.bool)
    starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def document_mask(document_ids: Tensor) -> Tensor:
    """[b, s] document indices -> bool [b, 1, s, s]: causal, and inside the query's own document."""
    s = document_ids.shape[1]
    causal = torch.ones(s, s, dtype=torch.bool).tril()
    return (causal & (document_ids[:, :, None] == document_ids[:, None, :])).unsqueeze(1)


def document_bounds(position_ids: Tensor) -> Tensor:
    """[b, s] positions -> int32 [documents + 1] cumulative document lengths, the rows one after another."""
    starts = (position_ids.flatten() == 0).nonzero().flatten()
    return torch.cat([starts, starts.new_tensor([position_ids.numel()])]).int()


def packed_documents(cu_seqlens: Tensor | None) -> PackedSeqParams | None:
    """megatron-core's form of a packed row's bounds."""
    if cu_seqlens is None:
        return None
    longest = int(cu_seqlens.diff().max())
    return PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
    )


def cut_for_context_parallel(batch: Batch) -> Batch:
    """The rank's zig-zag share of the sequence; masks keep all their columns, for every key is gathered."""
    size = parallel_state.get_context_parallel_world_size()
    if size == 1:
        return batch
    rank = parallel_state.get_context_parallel_rank()
    keep = zigzag_positions(batch.tokens.shape[1] // size, rank, size)
    mask = batch.attention_mask
    return Batch(
        tokens=batch.tokens[:, keep],
        position_ids=batch.position_ids[:, keep],
        labels=batch.labels[:, :, keep],
        loss_mask=batch.loss_mask[:, :, keep],
        attention_mask=None if mask is None else mask[:, :, keep],
        cu_seqlens=batch.cu_seqlens,
        source=batch.source,
    )


def to_device(batch: Batch) -> Batch:
    """Copy every tensor to the rank's device; nothing to do on the CPU."""
    if not torch.cuda.is_available():
        return batch
    moved: dict[str, Any] = {name: value if value is None else value.cuda() for name, value in vars(batch).items()}
    return Batch(**moved)
