"""The fused, chunked head against a plain linear layer and torch's cross entropy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.config import ConfigError, ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.model.chunked_cross_entropy import SLAB_ALIGNMENT, chunked_cross_entropy, slab_bounds

V, H, R = 1000, 24, 37
CHUNKS = [1, 64, 333, 999, 1000, 5000]
MODEL = ModelConfig(
    num_layers=1, hidden_size=32, ffn_hidden_size=48, num_attention_heads=2, num_query_groups=1, kv_channels=16,
    vocab_size=640, mtp_num_layers=2,
)  # fmt: skip


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, weight, labels, and a gradient that differs by token and is zero for some (the loss mask)."""
    generator = torch.Generator().manual_seed(0)
    draw: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    labels = torch.randint(0, V, (R,), generator=generator)
    labels[:3] = torch.tensor([0, V - 1, 64])
    grad = torch.randn(R, **draw) * (torch.rand(R, **draw) < 0.8)
    return torch.randn(R, H, **draw), torch.randn(V, H, **draw), labels, grad


def chunked(chunk_vocab: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda hidden, weight, labels: chunked_cross_entropy(hidden, weight, labels, chunk_vocab)


def naive(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), labels, reduction="none")


def with_gradients(
    function: Callable[..., Tensor], hidden: Tensor, weight: Tensor, labels: Tensor, grad: Tensor
) -> list[Tensor]:
    """Losses, gradient of hidden, gradient of weight."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    losses = function(hidden, weight, labels)
    losses.backward(grad.to(losses.dtype))
    return [losses.detach(), hidden.grad, weight.grad]  # type: ignore[list-item]


@pytest.mark.parametrize("chunk_vocab", CHUNKS)
def test_float64_is_exact_whatever_the_chunk(inputs, chunk_vocab: int) -> None:
    results = with_gradients(chunked(chunk_vocab), *inputs)
    for actual, expected in zip(results, with_gradients(naive, *inputs), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_vocab", CHUNKS)
def test_bfloat16_rounds_hardly_more_than_the_whole_head(inputs, chunk_vocab: int) -> None:
    hidden, weight, labels, grad = inputs
    low = (0.3 * hidden.bfloat16(), weight.bfloat16())
    exact = with_gradients(naive, low[0].double(), low[1].double(), labels, grad)
    whole = with_gradients(
        lambda h, w, y: F.cross_entropy((h @ w.t()).float(), y, reduction="none"), *low, labels, grad
    )
    slabs = with_gradients(chunked(chunk_vocab), *low, labels, grad)
    assert [tensor.dtype for tensor in slabs] == [torch.float32, torch.bfloat16, torch.bfloat16]
    for actual, peer, expected in zip(slabs, whole, exact, strict=True):
        error, peer_error = ((tensor.double() - expected).norm() for tensor in (actual, peer))
        # The sum over slabs of the gradient of hidden states adds products that are each rounded.
        assert error <= 1.25 * peer_error < 0.02 * expected.norm()


def test_extreme_logits_stay_finite(inputs) -> None:
    hidden, weight, labels, grad = inputs
    results = with_gradients(chunked(100), 300 * hidden, weight, labels, grad)
    expected = with_gradients(naive, 300 * hidden, weight, labels, grad)
    torch.testing.assert_close(results, expected, rtol=1e-10, atol=1e-10)


def test_frozen_weight_or_hidden_state_gets_no_gradient(inputs) -> None:
    hidden, weight, labels, _ = inputs
    hidden.requires_grad_()
    chunked_cross_entropy(hidden, weight, labels, 100).sum().backward()
    assert hidden.grad is not None and weight.grad is None
    hidden = hidden.detach()
    weight.requires_grad_()
    chunked_cross_entropy(hidden, weight, labels, 100).sum().backward()
    assert weight.grad is not None and hidden.grad is None


@pytest.mark.parametrize(("vocab_size", "chunk_vocab"), [(151680, 4096), (75840, 8192), (1000, 64), (7, 100), (64, 64)])
def test_slabs_cover_the_vocabulary_once(vocab_size: int, chunk_vocab: int) -> None:
    bounds = slab_bounds(vocab_size, chunk_vocab)
    assert [n for start, stop in bounds for n in range(start, stop)] == list(range(vocab_size))
    assert max(stop - start for start, stop in bounds) <= max(chunk_vocab, SLAB_ALIGNMENT)


def test_no_tensor_as_large_as_the_logits_is_kept_or_made() -> None:
    rows, vocab = 64, 8192
    hidden, weight = torch.randn(rows, 8, requires_grad=True), torch.randn(vocab, 8, requires_grad=True)
    labels = torch.randint(0, vocab, (rows,))

    def largest_allocation(function: Any) -> int:
        with torch.profiler.profile(profile_memory=True) as profile:
            function().sum().backward()
        memory: list[Any] = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
        return max(event.nbytes() for event in memory)

    logits_bytes = rows * vocab * 4
    assert largest_allocation(lambda: naive(hidden, weight, labels)) == logits_bytes
    # The weight's gradient, not the logits, is what remains.
    assert largest_allocation(lambda: chunked_cross_entropy(hidden, weight, labels, 256)) == vocab * 8 * 4


def losses_and_gradients(precision: PrecisionConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the megatron-core model with two MTP layers that share the head, same weights at each call."""
    from megatron.core import tensor_parallel

    from megatron_mimo.model import build
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.platform import cpu

    cpu.install()
    generator = torch.Generator().manual_seed(1)
    with build.single_process_group():
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        (chunk,) = build.build_model(MODEL, ParallelConfig(), precision, 16, 10000)
        initialize_weights([chunk], MODEL, 1)
        labels = torch.randint(0, MODEL.vocab_size, (3, 2, 16), generator=generator)
        losses = chunk(labels[0], torch.arange(16).expand(2, 16).contiguous(), None, labels)
        (losses * torch.rand(losses.shape, generator=generator)).sum().backward()
    return losses.detach(), {name: p.grad for name, p in chunk.named_parameters()}  # type: ignore[misc]


def test_model_with_mtp_has_the_losses_and_gradients_of_whole_heads() -> None:
    whole = PrecisionConfig(dtype="fp32")
    expected, expected_gradients = losses_and_gradients(whole)
    in_slabs = dataclasses.replace(whole, cross_entropy="chunked", cross_entropy_chunk_vocab=128)
    losses, gradients = losses_and_gradients(in_slabs)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5, msg=name)


def test_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="cross_entropy_chunk_vocab"):
        PrecisionConfig(cross_entropy_chunk_vocab=0)
