# SPDX-License-Identifier: Apache-2.0
# pyright: reportArgumentType=false, reportIncompatibleMethodOverride=false
"""MiMo for Transformers: Qwen2 with parallel multi-token prediction (MTP) layers.

Generation, the KV cache and training use the main model alone, exactly as Qwen2 does. With `output_mtp_logits=True` a
forward pass over whole sequences also returns the MTP layers' logits.

Shapes: `b`atch, `s`equence, `h`idden, `v`ocabulary, `D` MTP layers.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2DecoderLayer,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen2PreTrainedModel,
    Qwen2RMSNorm,
)

from .configuration_mimo import MiMoConfig


@dataclass
class MiMoCausalLMOutput(CausalLMOutputWithPast):
    """Qwen2's output and `mtp_logits` [D, b, s, v]: `mtp_logits[d, :, i]` predicts token i + 2 + d (d from 0)."""

    mtp_logits: torch.FloatTensor | None = None


class MiMoMTPLayer(Qwen2DecoderLayer):
    """From the main model's hidden state and one later token: the state that predicts the token after it."""

    def __init__(self, config: MiMoConfig):
        # MTP layers keep no KV cache, so any layer index that exists will do.
        super().__init__(config, layer_idx=0)
        self.hidden_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.token_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.input_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.final_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden, embedding, **context):
        """hidden, embedding [b, s, h] -> normalised state [b, s, h], ready for the output head."""
        joined = torch.cat([self.hidden_layernorm(hidden), self.token_layernorm(embedding)], dim=-1)
        output = super().forward(self.input_proj(joined), **context)
        return self.final_layernorm(output[0] if isinstance(output, tuple) else output)


class MiMoPreTrainedModel(Qwen2PreTrainedModel):
    config_class = MiMoConfig
    _no_split_modules: ClassVar[list[str]] = ["Qwen2DecoderLayer", "MiMoMTPLayer"]


class MiMoBackbone(Qwen2Model, MiMoPreTrainedModel):
    config_class = MiMoConfig

    def __init__(self, config: MiMoConfig):
        super().__init__(config)
        self.mtp_layers = nn.ModuleList(MiMoMTPLayer(config) for _ in range(config.num_nextn_predict_layers))
        self.post_init()


class MiMoForCausalLM(Qwen2ForCausalLM, MiMoPreTrainedModel):
    config_class = MiMoConfig

    def __init__(self, config: MiMoConfig):
        super().__init__(config)
        self.model = MiMoBackbone(config)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        output_mtp_logits=False,
        **kwargs,
    ):
        """As Qwen2; `output_mtp_logits=True` adds `mtp_logits` and needs `input_ids` of whole sequences, no cache."""
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "labels": labels,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
        }
        if not output_mtp_logits:
            return super().forward(**inputs, **kwargs)
        if input_ids is None or past_key_values is not None:
            raise ValueError("output_mtp_logits=True needs input_ids of whole sequences, without past_key_values")
        seen = []
        hook = self.model.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            outputs = super().forward(**inputs, **(kwargs | {"return_dict": True}))
        finally:
            hook.remove()
        mtp_logits = self._mtp_logits(seen[0], input_ids, attention_mask, position_ids)
        return MiMoCausalLMOutput(**outputs, mtp_logits=mtp_logits)

    def _mtp_logits(self, hidden, input_ids, attention_mask, position_ids):
        """Logits [D, b, s, v] from the main model's hidden state before its final norm [b, s, h]."""
        sequence = input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(sequence, device=input_ids.device)[None]
        if self.config.mtp_hidden_state == "after_final_norm":
            hidden = self.model.norm(hidden)
        context = {
            "attention_mask": self._causal_mask(hidden, attention_mask),
            "position_ids": position_ids,
            "position_embeddings": self.model.rotary_emb(hidden, position_ids),
        }
        logits = []
        for depth, layer in enumerate(self.model.mtp_layers, start=1):
            later = F.pad(input_ids[:, depth:], (0, min(depth, sequence)))
            embedding = self.model.embed_tokens(later)
            if self.config.mtp_zero_first_embedding:
                embedding = embedding.masked_fill((position_ids == 0).unsqueeze(-1), 0.0)
            logits.append(self.lm_head(layer(hidden, embedding, **context)))
        return torch.stack(logits) if logits else None

    def _causal_mask(self, hidden, attention_mask):
        """Additive mask [b or 1, 1, s, s]; flash attention is causal by itself and takes the padding mask as it is."""
        if "flash" in str(self.config._attn_implementation):
            return attention_mask
        sequence = hidden.shape[1]
        visible = torch.ones(sequence, sequence, dtype=torch.bool, device=hidden.device).tril()[None, None]
        if attention_mask is not None:
            # A padding token still sees itself: a row without any visible token would turn into NaN.
            itself = torch.eye(sequence, dtype=torch.bool, device=hidden.device)
            visible = visible & attention_mask[:, None, None, :].bool() | itself
        mask = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        return mask.masked_fill(~visible, torch.finfo(hidden.dtype).min)
