"""Documents that share a row: how attention is kept inside them, and for packed rows what each query may look at.

Plain torch. A packed row is one or more rows of the data, one after another. A rank holds some ranges of its places:
all of them, or under context parallelism its zig-zag share of every row (context_parallel.py). Rows are cut without
regard to documents, so that shapes do not depend on the data and no document is padded; a document that a cut splits
has queries on several ranks, each of which looks at keys of the whole row, as in Llama 3 (arXiv:2407.21783, section
3.3.2).

Shapes: `s` places of the rank, `S` places of the whole packed row, `n` heads, `g` key/value heads, `d` head size.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Range = tuple[int, int]
"""First place, and the one after the last."""
DocumentAttention = Literal["ignore", "mask", "packed"]
"""Documents that share a row: plain causal attention over all of them, a dense mask, or bounds of documents.

With bounds the rows of a micro-batch follow each other in one row: `tokens`, `position_ids` and `labels` of a Batch
have [1, b*s] for [b, s].
"""
MAX_MASKED_SEQ_LENGTH = 2048
"""A dense mask grows with the square of the sequence; beyond this length a packed row is cheaper."""


def choose_document_attention(intra_document: bool, backend: str, seq_length: int) -> DocumentAttention:
    """How to keep attention inside documents."""
    if not intra_document:
        return "ignore"
    return "packed" if backend == "transformer_engine" or seq_length > MAX_MASKED_SEQ_LENGTH else "mask"


@dataclass(frozen=True)
class QueryChunk:
    """Queries that follow each other in the packed row, cut into segments where documents end."""

    keys: Range
    """From the start of the first segment's document to the last query."""
    segments: list[tuple[int, int]]
    """Queries and keys of each segment; the queries are the last ones of their keys."""
    cu_seqlens_q: Tensor
    """int32 [segments + 1] cumulative queries."""
    cu_seqlens_kv: Tensor
    """int32 [segments + 1] cumulative keys."""

    @property
    def num_queries(self) -> int:
        return sum(queries for queries, _ in self.segments)

    @property
    def max_seqlen_q(self) -> int:
        """Queries of the longest segment."""
        return max(queries for queries, _ in self.segments)

    @property
    def max_seqlen_kv(self) -> int:
        """Keys of the longest segment."""
        return max(keys for _, keys in self.segments)

    @property
    def starts_with_document(self) -> bool:
        """Whether every segment's keys are those of its queries."""
        queries, keys = self.segments[0]
        return queries == keys


@dataclass(frozen=True)
class PackedDocuments:
    """The places of a packed row that a rank holds, in order. Lengths are plain numbers, known without the device."""

    chunks: list[QueryChunk]
    num_rows: int
    """Rows of the data that make up the packed row."""
    qkv_format = "sbhd"
    """For megatron-core's layers: rotation and shapes are those of any row, documents matter to attention alone."""

    def to(self, move: Callable[[Tensor], Tensor]) -> "PackedDocuments":
        """The same with its tensors moved."""
        chunks = [
            replace(chunk, cu_seqlens_q=move(chunk.cu_seqlens_q), cu_seqlens_kv=move(chunk.cu_seqlens_kv))
            for chunk in self.chunks
        ]
        return replace(self, chunks=chunks)


def pack_documents(bounds: Sequence[int], ranges: Iterable[Range], num_rows: int = 1) -> PackedDocuments:
    """bounds: starts of the packed row's documents, from 0, and its length; ranges: the places that the rank holds."""
    return PackedDocuments([_chunk(bounds, *places) for places in _merged(ranges)], num_rows)


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Neighbours as one."""
    merged: list[Range] = []
    for start, end in ranges:
        if merged and merged[-1][1] == start:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def _chunk(bounds: Sequence[int], start: int, end: int) -> QueryChunk:
    first, last = bisect_right(bounds, start), bisect_left(bounds, end)
    inner = list(bounds[first:last])
    query_ends, key_start = [start, *inner, end], bounds[first - 1]
    key_ends = [key_start, *inner, end]
    lengths = [(query_ends[i + 1] - query_ends[i], key_ends[i + 1] - key_ends[i]) for i in range(len(query_ends) - 1)]
    return QueryChunk(
        keys=(key_start, end),
        segments=lengths,
        cu_seqlens_q=torch.tensor(query_ends, dtype=torch.int32) - start,
        cu_seqlens_kv=torch.tensor(key_ends, dtype=torch.int32) - key_start,
    )


Attend = Callable[[Tensor, Tensor, Tensor, QueryChunk], Tensor]
"""query [q,n,d], key and value [k,g,d] of a chunk -> context [q,n*d]."""


def attend_by_chunks(query: Tensor, key: Tensor, value: Tensor, documents: PackedDocuments, attend: Attend) -> Tensor:
    """query [s,1,n,d] of the rank, key and value [S,1,g,d] of the whole packed row -> context [s,1,n*d]."""
    query, key, value = query.squeeze(1), key.squeeze(1), value.squeeze(1)
    contexts = []
    for chunk, rows in zip(documents.chunks, query.split([c.num_queries for c in documents.chunks]), strict=True):
        start, end = chunk.keys
        contexts.append(attend(rows, key[start:end], value[start:end], chunk))
    context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
    return context.unsqueeze(1)
