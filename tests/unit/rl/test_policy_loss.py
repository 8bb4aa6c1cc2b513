"""Eq. 1 against loops over tokens in float64, against finite differences, and under every way to split a batch."""

import math
import sys

import pytest
import torch

from megatron_mimo.config import ConfigError
from megatron_mimo.config.rl import PolicyLossConfig
from megatron_mimo.rl.policy_loss import mask_overlong, policy_loss, token_entropy


def random_batch(seed: int, b: int = 5, s: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(b, s, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, s + 1, (b,), generator=generator)
    return {
        "logprobs": old + 0.4 * torch.randn(b, s, generator=generator, dtype=torch.float64),
        "old_logprobs": old,
        "advantages": torch.randn(b, 1, generator=generator, dtype=torch.float64),
        "loss_mask": (torch.arange(s) < lengths[:, None]).double(),
        "rollout_logprobs": old + 0.3 * torch.randn(b, s, generator=generator, dtype=torch.float64),
        "reference_logprobs": old + 0.5 * torch.randn(b, s, generator=generator, dtype=torch.float64),
    }


def by_loops(batch: dict[str, torch.Tensor], options: PolicyLossConfig) -> float:
    """Token by token, in the order of the formula."""
    total, tokens = 0.0, 0
    for i in range(batch["logprobs"].shape[0]):
        for j in range(batch["logprobs"].shape[1]):
            if not batch["loss_mask"][i, j]:
                continue
            tokens += 1
            advantage = float(batch["advantages"][i, 0])
            new, old = float(batch["logprobs"][i, j]), float(batch["old_logprobs"][i, j])
            ratio = math.exp(new) / math.exp(old)
            low, high = 1 - options.clip_ratio_low, 1 + options.clip_ratio_high
            term = min(ratio * advantage, min(max(ratio, low), high) * advantage)
            if options.dual_clip is not None and advantage < 0:
                term = max(term, options.dual_clip * advantage)
            if options.importance_cap is not None:
                term *= min(math.exp(old) / math.exp(float(batch["rollout_logprobs"][i, j])), options.importance_cap)
            reference_ratio = math.exp(float(batch["reference_logprobs"][i, j])) / math.exp(new)
            total += term - options.kl_coefficient * (reference_ratio - math.log(reference_ratio) - 1)
    return -total / tokens


OPTIONS = [
    PolicyLossConfig(),
    PolicyLossConfig(clip_ratio_low=0.1, clip_ratio_high=0.5),
    PolicyLossConfig(dual_clip=1.3),
    PolicyLossConfig(importance_cap=1.1),
    PolicyLossConfig(dual_clip=1.5, importance_cap=2.0, log_ratio_limit=20.0),
    PolicyLossConfig(kl_coefficient=0.04),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_loss_equals_loops(options: PolicyLossConfig, seed: int) -> None:
    batch = random_batch(seed)
    result = policy_loss(**batch, global_tokens=float(batch["loss_mask"].sum()), options=options)
    assert float(result.loss) == pytest.approx(by_loops(batch, options), rel=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradient_equals_finite_differences(options: PolicyLossConfig) -> None:
    batch, step = random_batch(11, b=3, s=4), 1e-6
    batch["logprobs"].requires_grad_()
    policy_loss(**batch, global_tokens=float(batch["loss_mask"].sum()), options=options).loss.backward()
    gradient = batch["logprobs"].grad
    assert gradient is not None and gradient.abs().max() > 0
    for i in range(3):
        for j in range(4):
            moved = {}
            for sign in (1, -1):
                shift = torch.zeros(3, 4, dtype=torch.float64)
                shift[i, j] = sign * step
                moved[sign] = by_loops({**batch, "logprobs": batch["logprobs"].detach() + shift}, options)
            assert float(gradient[i, j]) == pytest.approx((moved[1] - moved[-1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("parts", [[1, 4], [2, 2, 1], [1, 1, 1, 1, 1]])
def test_splitting_the_batch_changes_nothing(parts: list[int]) -> None:
    batch = random_batch(3)
    batch["logprobs"].requires_grad_()
    tokens = float(batch["loss_mask"].sum())
    whole = policy_loss(**batch, global_tokens=tokens)
    (gradient,) = torch.autograd.grad(whole.loss, batch["logprobs"])
    pieces = zip(*(value.split(parts) for value in batch.values()), strict=True)
    results = [policy_loss(**dict(zip(batch, piece, strict=True)), global_tokens=tokens) for piece in pieces]
    total = torch.stack([result.loss for result in results]).sum()
    (gradient_of_parts,) = torch.autograd.grad(total, batch["logprobs"])
    torch.testing.assert_close(total, whole.loss, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(gradient_of_parts, gradient, rtol=1e-14, atol=1e-14)
    for name, value in whole.sums.items():
        torch.testing.assert_close(sum(result.sums[name] for result in results), value)


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    """At ratio 1 the gradient is -A / tokens at every token: long samples weigh more, as in Eq. 1."""
    batch = random_batch(5)
    batch["logprobs"] = batch["old_logprobs"].clone().requires_grad_()
    tokens = float(batch["loss_mask"].sum())
    policy_loss(**batch, global_tokens=tokens).loss.backward()
    assert batch["logprobs"].grad is not None
    torch.testing.assert_close(batch["logprobs"].grad, -batch["advantages"] * batch["loss_mask"] / tokens)


def test_masked_places_do_not_matter() -> None:
    batch = random_batch(6)
    tokens = float(batch["loss_mask"].sum())
    expected = policy_loss(**batch, global_tokens=tokens)
    for name in ("logprobs", "old_logprobs", "rollout_logprobs"):
        batch[name] = torch.where(batch["loss_mask"].bool(), batch[name], torch.nan)
    batch["logprobs"].requires_grad_()
    result = policy_loss(**batch, global_tokens=tokens)
    assert torch.equal(result.loss, expected.loss)
    assert result.sums.keys() == expected.sums.keys()
    assert all(torch.equal(result.sums[name], expected.sums[name]) for name in expected.sums)
    result.loss.backward()
    assert batch["logprobs"].grad is not None and batch["logprobs"].grad.isfinite().all()


def test_metrics() -> None:
    ratio = torch.tensor([[0.5, 1.0, 2.0], [0.5, 1.0, 2.0]], dtype=torch.float64)
    old = torch.full((2, 3), -1.0, dtype=torch.float64)
    result = policy_loss(
        old + ratio.log(),
        old,
        torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
        torch.tensor([[1, 1, 1], [1, 1, 0]]),
        global_tokens=5,
        rollout_logprobs=old - 0.25,
    )
    sums = {name: float(value) for name, value in result.sums.items()}
    assert sums == pytest.approx(
        {"tokens": 5, "ratio": 5.0, "clipped_high": 1, "clipped_low": 1, "kl": math.log(2), "rollout_gap": 1.25}
    )
    assert float(result.maxima["ratio"]) == pytest.approx(2)


def test_overlong_masking() -> None:
    mask = mask_overlong(torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.tensor([False, True]))
    assert mask.tolist() == [[1, 1, 0], [0, 0, 0]]


def test_entropy() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    assert token_entropy(probabilities.log()).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])


@pytest.mark.parametrize(
    "wrong", [{"clip_ratio_low": 1.0}, {"clip_ratio_high": 0.1}, {"dual_clip": 1.0}, {"importance_cap": 0.0}]
)
def test_wrong_options(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        PolicyLossConfig(**wrong)


def test_missing_rollout_logprobs() -> None:
    batch = random_batch(1)
    del batch["rollout_logprobs"]
    with pytest.raises(ConfigError, match="engine"):
        policy_loss(**batch, global_tokens=3, options=PolicyLossConfig(importance_cap=2.0))


def test_against_verl() -> None:
    """Skipped where verl is not installed."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", exc_type=ImportError)
    assert sys.modules["verl"]
    batch = random_batch(9)
    tokens = float(batch["loss_mask"].sum())
    theirs = core_algos.compute_policy_loss(
        old_log_prob=batch["old_logprobs"],
        log_prob=batch["logprobs"],
        advantages=batch["advantages"].expand(5, 7),
        response_mask=batch["loss_mask"],
        cliprange_low=0.2,
        cliprange_high=0.28,
        cliprange=0.2,
        clip_ratio_c=1e9,
        loss_agg_mode="token-mean",
    )[0]
    torch.testing.assert_close(policy_loss(**batch, global_tokens=tokens).loss, theirs, rtol=1e-6, atol=1e-6)
