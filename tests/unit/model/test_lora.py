"""Low-rank updates against the chain rule through merged weights, and their share of MiMo-7B's training state."""

import pytest
import torch
from torch import Tensor

from megatron_mimo.config import LoRAConfig, ModelConfig, ParallelConfig, PrecisionConfig, load
from megatron_mimo.config.pretrain import PretrainConfig
from megatron_mimo.convert.mimo import megatron_shapes

SMALL = ModelConfig(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=2, num_query_groups=1, kv_channels=16,
    vocab_size=128,
)  # fmt: skip
LORA = LoRAConfig(rank=3, alpha=6.0)
UPDATED = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2", "eh_proj")


def test_it_is_full_fine_tuning_restricted_to_the_update() -> None:
    """With W' = W + s B A: the same losses, and dA = s B^T dW', dB = s dW' A^T for every layer."""
    pytest.importorskip("megatron.core")
    from megatron.core import tensor_parallel

    from megatron_mimo.model import build
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.model.lora import SUFFIX, add_lora
    from megatron_mimo.platform import cpu

    cpu.install()
    tokens = torch.randint(0, 128, (2, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 128, (2, 2, 16), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(16).expand(2, 16).contiguous()

    def losses_of(chunk: torch.nn.Module) -> Tensor:
        losses = chunk(tokens, positions, None, labels)
        losses.sum().backward()
        return losses.detach()

    with build.single_process_group():
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        parallel, precision = ParallelConfig(), PrecisionConfig(dtype="fp32")
        (updated,) = build.build_model(SMALL, parallel, precision, 16, 10_000)
        (merged,) = build.build_model(SMALL, parallel, precision, 16, 10_000)
        for chunk in (updated, merged):
            initialize_weights([chunk], SMALL, seed=5)
        plain = losses_of(merged)
        merged.zero_grad()
        add_lora([updated], LORA)
        updates = {name: module for name, module in updated.named_modules() if name.endswith(SUFFIX)}
        assert len(updates) == 3 * 4 + 1
        generator = torch.Generator().manual_seed(2)
        for name, update in updates.items():
            linear = merged.get_submodule(name.removesuffix(SUFFIX))
            for parameter in (update.a, *update.b):
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
            linear.weight.data += LORA.scale * torch.cat(list(update.b)) @ update.a
        actual, expected = losses_of(updated), losses_of(merged)
        assert (expected - plain).abs().max() > 1e-2
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)
        for name, update in updates.items():
            gradient, b = merged.get_submodule(name.removesuffix(SUFFIX)).weight.grad, torch.cat(list(update.b))
            torch.testing.assert_close(update.a.grad, LORA.scale * b.T @ gradient, atol=1e-4, rtol=1e-4)
            b_gradient = torch.cat([part.grad for part in update.b])
            torch.testing.assert_close(b_gradient, LORA.scale * gradient @ update.a.T, atol=1e-4, rtol=1e-4)
        assert [name for name, p in updated.named_parameters() if p.requires_grad and SUFFIX not in name] == []


def test_targets_layers_and_dropout() -> None:
    pytest.importorskip("megatron.core")
    from megatron.core import tensor_parallel

    from megatron_mimo.model import build
    from megatron_mimo.model.lora import SUFFIX, add_lora
    from megatron_mimo.platform import cpu

    cpu.install()
    lora = LoRAConfig(rank=3, alpha=6.0, dropout=0.5, targets=["linear_qkv", "linear_fc2"], mtp_layers=False)
    with build.single_process_group():
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        (chunk,) = build.build_model(SMALL, ParallelConfig(), PrecisionConfig(dtype="fp32"), 16, 10_000)
        add_lora([chunk], lora)
        updates = {name: module for name, module in chunk.named_modules() if name.endswith(SUFFIX)}
        assert {name.rsplit(".", 1)[1] for name in updates} == {"linear_qkv_lora", "linear_fc2_lora"}
        assert len(updates) == 2 * SMALL.num_layers
        assert all(name.startswith("decoder.") for name in updates)
        update = next(iter(updates.values()))
        for parameter in (update.a, *update.b):
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(2))
        inputs = torch.ones(1, 4000, SMALL.hidden_size)
        with torch.no_grad():
            expected = update.eval()(inputs)
            dropped = update.train()(inputs)
        assert (dropped - expected).abs().max() > 0.1, "half of the inputs are gone"
        # Over 4,000 rows the mean is that without dropout, each row's deviation being of the output's own size.
        deviation = dropped.std(dim=1) / 4000**0.5
        assert ((dropped.mean(dim=1) - expected[:, 0]).abs() < 5 * deviation).all()


def test_the_default_trains_less_than_two_percent_of_mimo_7b() -> None:
    model = load(PretrainConfig, ["examples/mimo_7b/pretrain.yaml"]).model
    shapes = megatron_shapes(model)
    updated = [shape for name, shape in shapes.items() if name.split(".")[-2] in UPDATED and name.endswith(".weight")]
    trained = sum(LoRAConfig().rank * (rows + columns) for rows, columns in updated)
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert len(updated) == 37 * 4 + 1
    assert trained / total == pytest.approx(0.0021, abs=2e-4)
