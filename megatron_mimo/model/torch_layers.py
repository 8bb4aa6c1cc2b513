"""Layers of the torch backend: RMSNorm that knows sequence parallelism, SwiGLU, and grouped-query attention.

Shapes: `s`equence (local to the rank), `S` whole sequence, `b`atch, `n` heads, `g` key/value heads, `d` head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.backends import LocalSpecProvider
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from megatron_mimo.model.context_parallel import gather_whole_rows, zigzag_positions
from megatron_mimo.model.packed_documents import PackedDocuments, QueryChunk, attend_by_chunks
from megatron_mimo.model.product_attention import BLOCKS, MAX_PRODUCT_LENGTH, product_attention
from megatron_mimo.model.torch_functions import RMSNormFunction, RotaryQKVFunction, SwiGLUFunction


class RMSNorm(torch.nn.Module):
    """Root-mean-square norm; its gradient is summed over tensor-parallel ranks when the sequence is cut over them."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden_states: Tensor) -> Tensor:
        normed: Any = RMSNormFunction.apply(hidden_states, self.weight, self.eps)
        return normed


class SwiGLU(MegatronModule):
    """silu(gate) * up of the two halves of fc1's output: [s,b,2f] -> [s,b,f]."""

    def forward(self, gate_and_up: Tensor) -> Tensor:
        activated: Any = SwiGLUFunction.apply(gate_and_up)
        return activated


class RotarySelfAttention(SelfAttention):
    """SelfAttention that splits the joint projection and rotates queries and keys in one step.

    megatron-core's own way, which more tensor-parallel ranks than key/value heads still go, takes a dozen walks over
    queries and keys.
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, *args: Any, rotary_pos_emb: Any = None, **kw: Any
    ) -> tuple[Tensor, Tensor]:
        """hidden_states [s,b,h], rotary_pos_emb the angles [s,1,1,d] -> output [s,b,h] and the bias that it lacks."""
        groups: Any = self.config.num_query_groups
        if rotary_pos_emb is None or groups < self.world_size:
            return super().forward(hidden_states, attention_mask, *args, rotary_pos_emb=rotary_pos_emb, **kw)  # type: ignore[arg-type]
        project: Any = self.linear_qkv
        mixed, _ = project(hidden_states)
        mixed = mixed.unflatten(-1, (self.num_query_groups_per_partition, -1))
        angles = rotary_pos_emb.flatten(0, -2)
        heads: Any = RotaryQKVFunction.apply(mixed, angles.cos().to(mixed.dtype), angles.sin().to(mixed.dtype))
        query, key, value = (tensor.permute(2, 0, 1, 3) for tensor in heads)
        recomputes = self.checkpoint_core_attention and self.training
        attend: Any = self._checkpointed_attention_forward if recomputes else self.core_attention
        documents = kw.get("packed_seq_params")
        context = attend(
            query, key, value, attention_mask, attn_mask_type=self.attn_mask_type, packed_seq_params=documents
        )
        return self.linear_proj(context)


class GroupedQueryAttention(MegatronModule):
    """Causal attention core on `scaled_dot_product_attention`, inside documents when a mask is given.

    `attention_mask` is None (causal), or bool [b, 1, s, S], True where a query row may look: `batch.py` builds it from
    the documents' bounds, or passes PackedDocuments for a packed row. Under context parallelism each rank holds its
    zig-zag share of the sequence and gathers all keys and values, and its mask holds the rows of its own queries.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        pg_collection: ProcessGroupCollection,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__(config=config)
        self.softmax_scale = softmax_scale
        self.cp_group = pg_collection.cp if config.context_parallel_size > 1 else None
        self.grouped = config.num_query_groups != config.num_attention_heads

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: PackedDocuments | None = None,
    ) -> Tensor:
        """query [s,b,n,d], key and value [s,b,g,d] -> context [s,b,n*d]; b = 1 for PackedDocuments."""
        s, b, n, d = query.shape
        if self.cp_group is not None:
            num_rows = 1 if packed_seq_params is None else packed_seq_params.num_rows
            key, value = gather_whole_rows(key, value, self.cp_group, num_rows)
        if packed_seq_params is not None:
            return attend_by_chunks(query, key, value, packed_seq_params, self._attend_segments)
        if self.cp_group is not None and attention_mask is None:
            attention_mask = self._causal_rows(s, query.device)
        q, k, v = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        if q.device.type == "cpu" and q.element_size() in BLOCKS and k.shape[2] <= MAX_PRODUCT_LENGTH:
            context = product_attention(q, k, v, attention_mask, self.softmax_scale or d**-0.5)
            return context.view(s, b, n * d)
        context = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=attention_mask,
            is_causal=attention_mask is None,
            scale=self.softmax_scale,
            enable_gqa=self.grouped,
        )
        return context.permute(2, 0, 1, 3).reshape(s, b, n * d)

    def _attend_segments(self, query: Tensor, key: Tensor, value: Tensor, chunk: QueryChunk) -> Tensor:
        """query [q,n,d], key and value [k,g,d] -> [q,n*d]: memory and time grow with the documents' lengths.

        Only the first segment may have more keys than queries, and needs a mask.
        """
        # The fused kernel wants a batch axis.
        query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value))
        num_queries, num_keys = zip(*chunk.segments, strict=True)
        contexts = []
        for q, k, v in zip(query.split(num_queries, 2), key.split(num_keys, 2), value.split(num_keys, 2), strict=True):
            mask = None if q.shape[2] == k.shape[2] else last_rows_of_causal_mask(q.shape[2], k.shape[2], q.device)
            contexts.append(
                F.scaled_dot_product_attention(
                    q, k, v, mask, is_causal=mask is None, scale=self.softmax_scale, enable_gqa=self.grouped
                )
            )
        return torch.cat(contexts, dim=2).squeeze(0).transpose(0, 1).flatten(1)

    def _causal_rows(self, s: int, device: torch.device) -> Tensor:
        """The rows of the causal mask that belong to this context-parallel rank: bool [s, S]."""
        assert self.cp_group is not None
        size = self.cp_group.size()
        rows = zigzag_positions(s * size, self.cp_group.rank(), size).to(device)
        return rows[:, None] >= torch.arange(s * size, device=device)[None, :]

    def sharded_state_dict(self, *_: Any, **__: Any) -> dict:
        return {}


def last_rows_of_causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """bool [num_queries, num_keys] of queries that are the last ones of their keys."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)


class TorchSpecProvider(LocalSpecProvider):
    """megatron-core's local linear layers with the norm and the attention above."""

    def layer_norm(self, rms_norm: bool = False, for_qk: bool = False) -> type:
        return RMSNorm

    def activation_func(self) -> type:
        return SwiGLU

    def core_attention(self) -> type:
        return GroupedQueryAttention
