"""Layers of the torch backend: RMSNorm that knows sequence parallelism, SwiGLU, and grouped-query attention.

Shapes: `s`equence (local to the rank), `S` whole sequence, `b`atch, `n` heads, `g` key/value heads, `d` head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.backends import LocalSpecProvider
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

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
    """SelfAttention that splits the joint projection and rotates queries and keys in one step, where rows are whole.

    megatron-core's own way, which packed rows and more tensor-parallel ranks than key/value heads still go, takes a
    dozen walks over queries and keys.
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, *args: Any, rotary_pos_emb: Any = None, **kw: Any
    ) -> tuple[Tensor, Tensor]:
        """hidden_states [s,b,h], rotary_pos_emb the angles [s,1,1,d] -> output [s,b,h] and the bias that it lacks."""
        groups: Any = self.config.num_query_groups
        if rotary_pos_emb is None or kw.get("packed_seq_params") is not None or groups < self.world_size:
            return super().forward(hidden_states, attention_mask, *args, rotary_pos_emb=rotary_pos_emb, **kw)  # type: ignore[arg-type]
        project: Any = self.linear_qkv
        mixed, _ = project(hidden_states)
        mixed = mixed.unflatten(-1, (self.num_query_groups_per_partition, -1))
        angles = rotary_pos_emb.flatten(0, -2)
        heads: Any = RotaryQKVFunction.apply(mixed, angles.cos().to(mixed.dtype), angles.sin().to(mixed.dtype))
        query, key, value = (tensor.permute(2, 0, 1, 3) for tensor in heads)
        recomputes = self.checkpoint_core_attention and self.training
        attend: Any = self._checkpointed_attention_forward if recomputes else self.core_attention
        return self.linear_proj(attend(query, key, value, attention_mask, attn_mask_type=self.attn_mask_type))


class GroupedQueryAttention(MegatronModule):
    """Causal attention core on `scaled_dot_product_attention`, inside documents when a mask is given.

    `attention_mask` is None (causal), or bool [b, 1, s, S], True where a query row may look: `batch.py` builds it from
    the documents' bounds, or passes the bounds themselves for a packed row. Under context parallelism each rank holds
    the zig-zag chunks r and 2*CP-1-r of the sequence, gathers all keys and values, and its mask holds the rows of its
    own queries.
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
        packed_seq_params: Any = None,
    ) -> Tensor:
        """query [s,b,n,d], key and value [s,b,g,d] -> context [s,b,n*d]; without b for a packed row -> [s,n*d]."""
        if packed_seq_params is not None:
            return self._attend_documents(query, key, value, packed_seq_params.cu_seqlens_q)
        s, b, n, d = query.shape
        if self.cp_group is not None:
            key, value = self._gather_sequence(key, value)
            if attention_mask is None:
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

    def _attend_documents(self, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Packed row [s,n,d] -> [s,n*d], a document at a time: memory and time grow with the documents' lengths."""
        lengths = cu_seqlens.diff().tolist()
        # The fused kernel wants a batch axis.
        batched = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value))
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in batched), strict=True)
        contexts = [
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.softmax_scale, enable_gqa=self.grouped)
            for q, k, v in parts
        ]
        return torch.cat(contexts, dim=2).squeeze(0).transpose(0, 1).flatten(1)

    def _gather_sequence(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Local zig-zag chunks [s,b,g,d] -> keys and values of the whole sequence [S,b,g,d] in order."""
        assert self.cp_group is not None
        size, d = self.cp_group.size(), key.shape[-1]
        gathered = gather_from_sequence_parallel_region(
            torch.cat([key, value], dim=-1), tensor_parallel_output_grad=True, group=self.cp_group
        )
        chunks = gathered.chunk(2 * size, dim=0)
        ordered = [*chunks[0::2], *reversed(chunks[1::2])]
        key, value = torch.cat(ordered, dim=0).split(d, dim=-1)
        return key, value

    def _causal_rows(self, s: int, device: torch.device) -> Tensor:
        """The rows of the causal mask that belong to this context-parallel rank: bool [s, S]."""
        assert self.cp_group is not None
        rows = zigzag_positions(s, self.cp_group.rank(), self.cp_group.size()).to(device)
        return rows[:, None] >= torch.arange(s * self.cp_group.size(), device=device)[None, :]

    def sharded_state_dict(self, *_: Any, **__: Any) -> dict:
        return {}


def zigzag_positions(local_length: int, cp_rank: int, cp_size: int) -> Tensor:
    """Positions in the whole sequence that a context-parallel rank holds: chunk r, then chunk 2*CP-1-r."""
    half = local_length // 2
    first, second = cp_rank * half, (2 * cp_size - 1 - cp_rank) * half
    return torch.cat([torch.arange(first, first + half), torch.arange(second, second + half)])


class TorchSpecProvider(LocalSpecProvider):
    """megatron-core's local linear layers with the norm and the attention above."""

    def layer_norm(self, rms_norm: bool = False, for_qk: bool = False) -> type:
        return RMSNorm

    def activation_func(self) -> type:
        return SwiGLU

    def core_attention(self) -> type:
        return GroupedQueryAttention
