"""Transformer Engine's attention, also over documents whose rows are cut over context-parallel ranks.

Importing this module needs Transformer Engine.
"""

from enum import Enum
from typing import Any

from megatron.core.extensions.transformer_engine import TEDotProductAttention
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor

from megatron_mimo.model.context_parallel import gather_whole_rows
from megatron_mimo.model.packed_documents import PackedDocuments, QueryChunk, attend_by_chunks


class EngineMaskType(Enum):
    """A mask of Transformer Engine that megatron-core's AttnMaskType does not name."""

    padding_causal_bottom_right = "queries are the last ones of their keys"


class EngineAttention(TEDotProductAttention):
    """TEDotProductAttention, which for PackedDocuments is called once for each chunk of queries.

    Transformer Engine's own context parallelism, a ring of keys and values, serves rows without documents. For packed
    ones it wants every document cut over all ranks, each padded to a multiple of 2*CP, which would make a row's length
    depend on its documents. Here keys and values are gathered, and the chunks' attention knows of no other rank.
    """

    def __init__(self, *arguments: Any, pg_collection: Any, **named: Any) -> None:
        super().__init__(*arguments, pg_collection=pg_collection, **named)
        self.cut = self.config.context_parallel_size > 1
        self.gather_group = pg_collection.cp

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
        **named: Any,
    ) -> Tensor:
        """query [s,b,n,d], key and value [s,b,g,d] -> context [s,b,n*d]; b = 1 for PackedDocuments."""
        whole = super().forward
        if not isinstance(packed_seq_params, PackedDocuments):
            return whole(query, key, value, attention_mask, attn_mask_type, attention_bias, packed_seq_params, **named)
        if self.cut:
            key, value = gather_whole_rows(key, value, self.gather_group, packed_seq_params.num_rows)

        def attend(query: Tensor, key: Tensor, value: Tensor, chunk: QueryChunk) -> Tensor:
            mask: Any = attn_mask_type
            if not chunk.starts_with_document:
                mask = EngineMaskType.padding_causal_bottom_right
            return whole(query, key, value, None, mask, None, chunk_bounds(chunk, self.cut), **named)

        return attend_by_chunks(query, key, value, packed_seq_params, attend)


def chunk_bounds(chunk: QueryChunk, cut: bool) -> PackedSeqParams:
    """megatron-core's form of a chunk's segments; `cut`: switch Transformer Engine's context parallelism off."""
    own_size: dict[str, Any] = {"local_cp_size": 1} if cut else {}
    return PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=chunk.cu_seqlens_q,
        cu_seqlens_kv=chunk.cu_seqlens_kv,
        max_seqlen_q=chunk.max_seqlen_q,
        max_seqlen_kv=chunk.max_seqlen_kv,
        **own_size,
    )
