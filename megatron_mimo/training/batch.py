"""From token rows to what the model takes: shifted labels per depth, positions, document masks, context-parallel cut.

Shapes: `s`equence (whole), `b`atch (micro-batch), `D` MTP layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from torch import Tensor

from megatron_mimo.config import ConfigError, StageConfig, TrainingConfig
from megatron_mimo.model.context_parallel import zigzag_positions, zigzag_ranges
from megatron_mimo.model.packed_documents import (
    DocumentAttention,
    PackedDocuments,
    choose_document_attention,
    pack_documents,
)


@dataclass
class Batch:
    """The context-parallel rank's share of one micro-batch; of each row of the data the same places."""

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
    documents: PackedDocuments | None
    """Those of a packed row; None otherwise."""
    source: Tensor
    """[b] index of the data source of each row of the data."""


def model_shape(attention: DocumentAttention, micro_batch_size: int, seq_length: int) -> tuple[int, int]:
    """(b, s) of what the model sees of a micro-batch, over all context-parallel ranks."""
    return (1, micro_batch_size * seq_length) if attention == "packed" else (micro_batch_size, seq_length)


def document_attention(config: TrainingConfig, stage: StageConfig, backend: str) -> DocumentAttention:
    """`choose_document_attention` for a stage of a run; raises ConfigError where its layers cannot train the model."""
    recursive = config.model.mtp_recursive_steps > 1
    if recursive and backend == "transformer_engine":
        raise ConfigError(
            "model.mtp_recursive_steps",
            config.model.mtp_recursive_steps,
            "is trained with torch layers, and Transformer Engine was chosen: set precision.backend=torch",
        )
    return choose_document_attention(config.data.intra_document_attention, backend, stage.seq_length, recursive)


def make_batch(
    rows: dict[str, Tensor],
    mtp_num_layers: int,
    eod_token_id: int,
    attention: DocumentAttention,
    cp_rank: int = 0,
    cp_size: int = 1,
) -> Batch:
    """The loader's rows -> the rank's share of them; positions restart with each document unless ignored.

    rows: `tokens` [b, s+1], `source` [b]; packed samples bring `segments` [b, s+1], which take the documents' place and
    end what is predicted, and `loss_mask` [b, s+1]. Labels are shifted before rows are cut: what a rank predicts at its
    last place may be another rank's first token. Masks keep all their columns, for every key is gathered.
    """
    tokens = rows["tokens"][:, :-1]
    b, s = tokens.shape
    labels, loss_mask = shifted_labels(rows["tokens"], 1 + mtp_num_layers)
    if "segments" in rows:
        loss_mask *= sample_loss_mask(rows["segments"], rows["loss_mask"], 1 + mtp_num_layers)
    position_ids, attention_mask, packed = torch.arange(s).expand(b, s), None, None
    if attention != "ignore":
        document_ids = rows["segments"][:, :-1] if "segments" in rows else documents(tokens, eod_token_id)
        position_ids = document_positions(document_ids)
        attention_mask = document_mask(document_ids) if attention == "mask" else None
    if attention == "packed":
        ranges = [
            (row * s + start, row * s + end) for row in range(b) for start, end in zigzag_ranges(s, cp_rank, cp_size)
        ]
        packed = pack_documents(document_bounds(position_ids), ranges, num_rows=b)
    share = slice(None) if cp_size == 1 else zigzag_positions(s, cp_rank, cp_size)
    one_row: Callable[[Tensor], Tensor] = (lambda x: x.flatten(-2).unsqueeze(-2)) if packed else lambda x: x
    return Batch(
        tokens=one_row(tokens[:, share]).contiguous(),
        position_ids=one_row(position_ids[:, share]).contiguous(),
        labels=one_row(labels[:, :, share]).contiguous(),
        loss_mask=loss_mask[:, :, share].contiguous(),
        attention_mask=None if attention_mask is None else attention_mask[:, :, share],
        documents=packed,
        source=rows["source"],
    )


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


def document_bounds(position_ids: Tensor) -> list[int]:
    """[b, s] positions -> starts of the documents, the rows one after another, and the number of all places."""
    return [*(position_ids.flatten() == 0).nonzero().flatten().tolist(), position_ids.numel()]


def context_parallel_place() -> tuple[int, int]:
    """This rank's number among those that share a sequence, and their number."""
    return parallel_state.get_context_parallel_rank(), parallel_state.get_context_parallel_world_size()


def to_device(batch: Batch) -> Batch:
    """Copy every tensor to the rank's device; nothing to do on the CPU."""
    moved: dict[str, Any] = {name: moved_to_device(value) for name, value in vars(batch).items()}
    return Batch(**moved)


def moved_to_device(value: Any) -> Any:
    """A tensor, or documents, or None, on the rank's device.

    Copied from pinned memory the program need not wait: kernels queued later read what has arrived, and torch keeps the
    pinned memory until then.
    """
    if isinstance(value, PackedDocuments):
        return value.to(moved_to_device)
    if value is None or not torch.cuda.is_available():
        return value
    return value.pin_memory().cuda(non_blocking=True)
