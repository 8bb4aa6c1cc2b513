"""Model shapes that several tests speak of, and Transformers' configuration of the same shape."""

from typing import Any

from transformers import Qwen2Config

from megatron_mimo.config import ModelConfig

MIMO_7B = ModelConfig(
    num_layers=36,
    hidden_size=4096,
    ffn_hidden_size=11008,
    num_attention_heads=32,
    num_query_groups=8,
    kv_channels=128,
    vocab_size=151680,
    mtp_num_layers=1,
)
LLAMA3_8B = ModelConfig(
    num_layers=32,
    hidden_size=4096,
    ffn_hidden_size=14336,
    num_attention_heads=32,
    num_query_groups=8,
    kv_channels=128,
    vocab_size=128256,
    mtp_num_layers=0,
)


def qwen2_config(model: ModelConfig, **settings: Any) -> Qwen2Config:
    """The main model's shape for `Qwen2ForCausalLM`, whose architecture it is."""
    return Qwen2Config(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        intermediate_size=model.ffn_hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_query_groups,
        rms_norm_eps=model.layernorm_epsilon,
        tie_word_embeddings=False,
        **settings,
    )
