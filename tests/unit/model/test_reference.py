"""The oracle itself, against Transformers, naive loops and closed forms."""

import cmath
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen2ForCausalLM

from megatron_mimo.config import ModelConfig
from megatron_mimo.model.reference import Attention, ReferenceMiMo, rotate
from support.models import qwen2_config

CONFIG = ModelConfig(
    num_layers=3,
    hidden_size=48,
    ffn_hidden_size=80,
    num_attention_heads=6,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=128,
    mtp_num_layers=2,
)
ROTARY_BASE = 640_000


def random_model(config: ModelConfig = CONFIG, dtype: torch.dtype = torch.float32, seed: int = 0) -> ReferenceMiMo:
    """Nothing at its neutral value: norms away from 1, biases away from 0."""
    torch.manual_seed(seed)
    model = ReferenceMiMo(config, ROTARY_BASE).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.5 * noise if "norm" in name else noise * (0.3 if "bias" in name else 0.1))
    return model.eval().requires_grad_(False)


def random_tokens(batch: int = 2, sequence: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (batch, sequence), generator=torch.Generator().manual_seed(seed))


def test_main_model_equals_transformers_qwen2() -> None:
    model, tokens = random_model(), random_tokens()
    rope = {"rope_type": "default", "rope_theta": float(ROTARY_BASE)}
    qwen2 = Qwen2ForCausalLM(qwen2_config(CONFIG, rope_parameters=rope)).eval()
    main_weights = {name: tensor for name, tensor in model.state_dict().items() if "mtp_layers" not in name}
    qwen2.load_state_dict(main_weights, strict=True)
    with torch.no_grad():
        expected = qwen2(tokens).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(model(tokens)[0], expected, atol=1e-5, rtol=0)


def test_rope_turns_each_pair_as_a_complex_number() -> None:
    x = torch.randn(1, 2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 7, 7, 1000]])
    turned = rotate(x, positions, ROTARY_BASE)
    for head in range(2):
        for index, position in enumerate(positions[0].tolist()):
            for pair in range(4):
                value = complex(x[0, head, index, pair], x[0, head, index, pair + 4])
                value *= cmath.exp(1j * position * ROTARY_BASE ** (-2 * pair / 8))
                assert turned[0, head, index, pair].item() == pytest.approx(value.real, abs=1e-9)
                assert turned[0, head, index, pair + 4].item() == pytest.approx(value.imag, abs=1e-9)


def test_gqa_equals_a_loop_over_heads_and_tokens() -> None:
    torch.manual_seed(0)
    attention = Attention(CONFIG, ROTARY_BASE).double().requires_grad_(False)
    x, size = torch.randn(1, 7, CONFIG.hidden_size, dtype=torch.float64), CONFIG.kv_channels
    positions = torch.arange(7)[None]
    q, k, v = (linear(x)[0] for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
    mixed = torch.zeros(7, CONFIG.num_attention_heads * size, dtype=torch.float64)
    for head in range(CONFIG.num_attention_heads):
        group = head // (CONFIG.num_attention_heads // CONFIG.num_query_groups)
        head_q, head_k = (
            rotate(t[:, i * size : (i + 1) * size][None, None], positions, ROTARY_BASE)[0, 0]
            for t, i in ((q, head), (k, group))
        )
        head_v = v[:, group * size : (group + 1) * size]
        for i in range(7):
            weights = [math.exp(float(head_q[i] @ head_k[j]) / math.sqrt(size)) for j in range(i + 1)]
            for j, weight in enumerate(weights):
                mixed[i, head * size : (head + 1) * size] += weight / sum(weights) * head_v[j]
    causal = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(attention(x, positions, causal)[0], mixed @ attention.o_proj.weight.T)


@pytest.mark.parametrize("hidden_state", ["before_final_norm", "after_final_norm"])
@pytest.mark.parametrize("zero_first", [True, False])
def test_mtp_layers_are_parallel_and_take_the_main_hidden_state(hidden_state: str, zero_first: bool) -> None:
    """MTP layer d recomputed token by token: the hidden state comes first, then the embedding of token i + d."""
    config = dataclasses.replace(CONFIG, mtp_hidden_state=hidden_state, mtp_zero_first_embedding=zero_first)
    model, tokens = random_model(config, torch.float64), random_tokens(batch=1)
    weights, sequence = model.state_dict(), tokens.shape[1]
    captured: list[torch.Tensor] = []
    model.model.norm.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    logits = model(tokens)
    hidden = captured[0] if hidden_state == "before_final_norm" else model.model.norm(captured[0])
    causal = torch.ones(sequence, sequence, dtype=torch.bool).tril()[None, None]
    for depth in (1, 2):
        prefix = f"model.mtp_layers.{depth - 1}."
        inputs = []
        for i in range(sequence - depth):
            embedding = weights["model.embed_tokens.weight"][tokens[0, i + depth]]
            if i == 0 and zero_first:
                embedding = torch.zeros_like(embedding)
            halves = [
                F.rms_norm(x, x.shape, weights[prefix + f"{name}.weight"], CONFIG.layernorm_epsilon)
                for name, x in (("hidden_layernorm", hidden[0, i]), ("token_layernorm", embedding))
            ]
            inputs.append(weights[prefix + "input_proj.weight"] @ torch.cat(halves))
        layer, length = model.model.mtp_layers[depth - 1], sequence - depth
        state = layer(torch.stack(inputs)[None], torch.arange(length)[None], causal[..., :length, :length])
        state = F.rms_norm(
            state, state.shape[-1:], weights[prefix + "final_layernorm.weight"], CONFIG.layernorm_epsilon
        )
        torch.testing.assert_close(logits[depth, :, :length], state @ weights["lm_head.weight"].T)


def test_position_zero_rule_changes_every_document_start() -> None:
    """With the rule, the next token cannot reach the prediction made at position 0; without it, it does."""
    tokens = random_tokens(batch=1)
    positions = torch.cat([torch.arange(10), torch.arange(14)])[None]
    documents = torch.cat([torch.zeros(10), torch.ones(14)])[None]
    changed = tokens.clone()
    changed[0, 1], changed[0, 11] = (tokens[0, 1] + 1) % 128, (tokens[0, 11] + 1) % 128
    for zero_first in (True, False):
        model = random_model(dataclasses.replace(CONFIG, mtp_zero_first_embedding=zero_first), torch.float64)
        before, after = (model(t, positions, documents)[1, 0] for t in (tokens, changed))
        for start in (0, 10):
            assert torch.equal(before[start], after[start]) == zero_first
        assert not torch.allclose(before[1], after[1])


def test_a_document_does_not_see_its_neighbours() -> None:
    """Packed documents give the logits they give alone, but for depth d's last d positions, which look past the end."""
    model, lengths = random_model(dtype=torch.float64), (9, 4, 11)
    tokens = random_tokens(batch=1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.cat([torch.full((length,), i) for i, length in enumerate(lengths)])[None]
    packed, start = model(tokens, positions, documents), 0
    for length in lengths:
        alone = model(tokens[:, start : start + length])
        for depth in range(3):
            kept = length - depth
            torch.testing.assert_close(packed[depth, :, start : start + kept], alone[depth, :, :kept])
        start += length
    assert not torch.allclose(model(tokens)[0, :, 9:], packed[0, :, 9:])


def test_without_mtp_layers_only_the_main_logits_come_out() -> None:
    model = random_model(dataclasses.replace(CONFIG, mtp_num_layers=0))
    assert model(random_tokens()).shape == (1, 2, 24, CONFIG.vocab_size)


def test_full_size_has_the_published_number_of_parameters() -> None:
    """MiMo-7B: 7 622 619 136 parameters in the main model and 210 790 400 in its MTP layer."""
    config = ModelConfig(
        num_layers=36,
        hidden_size=4096,
        ffn_hidden_size=11008,
        num_attention_heads=32,
        num_query_groups=8,
        kv_channels=128,
        vocab_size=151_680,
    )
    with torch.device("meta"):
        model = ReferenceMiMo(config, ROTARY_BASE)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    mtp = sum(size for name, size in sizes.items() if "mtp_layers" in name)
    assert (sum(sizes.values()) - mtp, mtp) == (7_622_619_136, 210_790_400)
