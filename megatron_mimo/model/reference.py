"""MiMo in plain PyTorch: the oracle that every other implementation of the model is compared with.

Written to be read beside the report (section 3.1 and Figure 2), not to be fast. It holds the whole model on one
device, and its parameter names are those of the Hugging Face checkpoint.

Shapes: `b`atch, `s`equence, `h`idden, `v`ocabulary, `n` attention heads, `g` key/value heads, `d` size of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron_mimo.config import ModelConfig


class RMSNorm(nn.Module):
    """`weight * x / sqrt(mean(x^2) + epsilon)` over the last axis."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)


def rotate(x: Tensor, position_ids: Tensor, rotary_base: float) -> Tensor:
    """Rotary position embedding (RoPE) of x [b, n, s, d]: turns pair (x_i, x_{i+d/2}) by position * base^(-2i/d)."""
    head_size = x.shape[-1]
    dtype = torch.promote_types(x.dtype, torch.float32)
    exponents = torch.arange(0, head_size, 2, dtype=dtype, device=x.device) / head_size
    angles = position_ids[:, None, :, None] * (1.0 / rotary_base**exponents)
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Grouped-query attention (GQA) with a bias on queries, keys and values, and RoPE."""

    def __init__(self, config: ModelConfig, rotary_base: float) -> None:
        super().__init__()
        self.head_size, self.rotary_base = config.kv_channels, rotary_base
        self.heads_per_group = config.num_attention_heads // config.num_query_groups
        query_size = config.num_attention_heads * config.kv_channels
        kv_size = config.num_query_groups * config.kv_channels
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=True)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=True)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=True)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, position_ids: Tensor, visible: Tensor) -> Tensor:
        """x [b, s, h], visible [b, 1, s, s] True where the row's token may see the column's -> [b, s, h]."""
        q, k, v = (self._heads(projection(x)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, position_ids, self.rotary_base), rotate(k, position_ids, self.rotary_base)
        k, v = (t.repeat_interleave(self.heads_per_group, dim=1) for t in (k, v))
        scores = q @ k.transpose(-1, -2) / self.head_size**0.5
        weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
        return self.o_proj((weights @ v).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


class SwiGLU(nn.Module):
    """`down(silu(gate(x)) * up(x))`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.ffn_hidden_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.ffn_hidden_size, bias=False)
        self.down_proj = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection."""

    def __init__(self, config: ModelConfig, rotary_base: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.self_attn = Attention(config, rotary_base)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, position_ids: Tensor, visible: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), position_ids, visible)
        return x + self.mlp(self.post_attention_layernorm(x))


class MTPLayer(DecoderLayer):
    """Multi-token prediction: the main model's hidden state and one later token -> the state that predicts the next."""

    def __init__(self, config: ModelConfig, rotary_base: float) -> None:
        super().__init__(config, rotary_base)
        self.hidden_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.token_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.input_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.final_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)

    def predict(self, hidden: Tensor, embedding: Tensor, position_ids: Tensor, visible: Tensor) -> Tensor:
        """hidden, embedding [b, s, h] -> normalised state [b, s, h], ready for the output head."""
        joined = torch.cat([self.hidden_layernorm(hidden), self.token_layernorm(embedding)], dim=-1)
        return self.final_layernorm(self(self.input_proj(joined), position_ids, visible))


class _Backbone(nn.Module):
    """Everything under the checkpoint's `model.` prefix."""

    def __init__(self, config: ModelConfig, rotary_base: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, rotary_base) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.mtp_layers = nn.ModuleList(MTPLayer(config, rotary_base) for _ in range(config.mtp_num_layers))


class ReferenceMiMo(nn.Module):
    """The main model and its D parallel MTP layers, which share the embedding and the output head with it."""

    def __init__(self, config: ModelConfig, rotary_base: float) -> None:
        super().__init__()
        self.config = config
        self.model = _Backbone(config, rotary_base)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor, position_ids: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """Logits [1 + D, b, s, v] of tokens [b, s]: `[0, :, i]` predicts token i+1, `[d, :, i]` token i+1+d.

        `position_ids` [b, s] default to 0..s-1; `document_ids` [b, s] hide tokens of other documents. MTP layer d
        also reads token i+d: the last d positions, and the last d of a document, see a token that is not
        theirs (zero at the end of the sequence), so callers leave them out.
        """
        model = self.model
        if position_ids is None:
            position_ids = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        visible = _visible(tokens, document_ids)
        normed, source = self.main_states(tokens, position_ids, visible)
        states = [normed]
        for depth, mtp_layer in enumerate(model.mtp_layers, start=1):
            assert isinstance(mtp_layer, MTPLayer)
            embedding = self._later_embedding(tokens, depth, position_ids)
            states.append(mtp_layer.predict(source, embedding, position_ids, visible))
        return self.lm_head(torch.stack(states))

    def main_states(self, tokens: Tensor, position_ids: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The main model's states for the output head, and those for the MTP layers, both [b, s, h]."""
        hidden = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            hidden = layer(hidden, position_ids, visible)
        normed = self.model.norm(hidden)
        return normed, hidden if self.config.mtp_hidden_state == "before_final_norm" else normed

    def _later_embedding(self, tokens: Tensor, depth: int, position_ids: Tensor) -> Tensor:
        """Embedding of the token `depth` places later, zero where position == 0 if the model was trained so."""
        embedding = self.model.embed_tokens(F.pad(tokens[:, depth:], (0, min(depth, tokens.shape[1]))))
        if self.config.mtp_zero_first_embedding:
            embedding = embedding.masked_fill((position_ids == 0).unsqueeze(-1), 0.0)
        return embedding


def _visible(tokens: Tensor, document_ids: Tensor | None) -> Tensor:
    """Mask [b, 1, s, s]: a token sees itself and what precedes it in its own document."""
    sequence = tokens.shape[1]
    causal = torch.ones(sequence, sequence, dtype=torch.bool, device=tokens.device).tril()
    if document_ids is None:
        return causal.expand(tokens.shape[0], 1, sequence, sequence)
    return (causal & (document_ids[:, :, None] == document_ids[:, None, :]))[:, None]
