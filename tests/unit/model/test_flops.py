"""FLOPs per token against published figures and against torch's own counter on another library's model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2ForCausalLM

from megatron_mimo.config import ModelConfig
from megatron_mimo.plan.flops import forward_flops_per_token, training_flops_per_token
from support.models import LLAMA3_8B, MIMO_7B, qwen2_config

SMALL = ModelConfig(
    num_layers=3,
    hidden_size=64,
    ffn_hidden_size=160,
    num_attention_heads=8,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=384,
    mtp_num_layers=0,
)


def test_mimo_7b_at_8k() -> None:
    count = training_flops_per_token(MIMO_7B, 8192)
    assert count.main / 1e9 == pytest.approx(49.3, abs=0.05)
    assert count.total / 1e9 == pytest.approx(54.5, abs=0.06)
    assert "half" in count.convention


def test_llama3_8b_matches_the_published_pair_of_rates() -> None:
    """Megatron-Bridge reports 14 451 tokens/s/GPU and 744 TFLOP/s for Llama3-8B at 8k: 51.5 GFLOP per token."""
    assert training_flops_per_token(LLAMA3_8B, 8192).total == pytest.approx(744e12 / 14451, rel=0.005)


def _qwen2(config: ModelConfig):
    model = Qwen2ForCausalLM(qwen2_config(config, use_cache=False))
    model.set_attn_implementation("eager")
    return model


def test_forward_and_training_against_torch_counter() -> None:
    """Eager attention multiplies the whole square, so the peer counts attention in full."""
    model, seq_length, batch = _qwen2(SMALL), 96, 2
    tokens = torch.randint(0, SMALL.vocab_size, (batch, seq_length))
    with FlopCounterMode(display=False) as forward:
        loss = model(tokens, labels=tokens).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    counted = forward.get_total_flops() / tokens.numel()
    # Rotary frequencies are made by a product of their own (positions by inverse frequencies), not counted.
    rotary = 2 * SMALL.kv_channels // 2 / batch
    assert forward_flops_per_token(SMALL, seq_length, causal_half=False).total == pytest.approx(counted, abs=rotary)
    both = counted + backward.get_total_flops() / tokens.numel()
    assert training_flops_per_token(SMALL, seq_length, causal_half=False).total == pytest.approx(both, rel=1e-3)


def test_causal_half_halves_the_attention_core_only() -> None:
    half, full = (forward_flops_per_token(MIMO_7B, 8192, causal_half=flag) for flag in (True, False))
    assert full.attention_core == 2 * half.attention_core
    assert full.main - full.attention_core == half.main - half.attention_core


def test_mtp_adds_a_layer_a_projection_and_a_head() -> None:
    two = forward_flops_per_token(ModelConfig(**{**vars(MIMO_7B), "mtp_num_layers": 2}), 8192)
    one = forward_flops_per_token(MIMO_7B, 8192)
    assert two.mtp == 2 * one.mtp and two.main == one.main
    layer = (one.main - one.head) / MIMO_7B.num_layers
    assert one.mtp == pytest.approx(layer + one.head + 2 * 8192 * 4096)
