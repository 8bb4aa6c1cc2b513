"""The policy loss of the report's Eq. 1 in plain torch, and the usual variants as switches that are off.

    J = E[ 1 / sum_i |o_i| * sum_i sum_j min(r_ij A_ij, clip(r_ij, 1 - eps_low, 1 + eps_high) A_ij) ]

with r_ij the probability ratio of the policy to the policy that the updates started from. The sum over tokens is
divided by the token count of the whole mini-batch, over all micro-batches and data-parallel ranks: the caller gives it,
so that losses (and gradients) of the parts add up to the whole, however it is split. The report has no KL term; with
`kl_coefficient` there is one, as in GRPO. `b`atch, `s`equence.
"""

from dataclasses import dataclass

import torch

from megatron_mimo.config import ConfigError
from megatron_mimo.config.rl import PolicyLossConfig


@dataclass(frozen=True)
class PolicyLoss:
    """Loss of a part of a mini-batch; add the losses and the metric sums of all parts."""

    loss: torch.Tensor
    """Scalar, this part's share of the mini-batch's loss."""
    sums: dict[str, torch.Tensor]
    """Scalars summed over tokens, without gradient; divide by the mini-batch's tokens. See `token_sums`."""
    maxima: dict[str, torch.Tensor]


def policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    loss_mask: torch.Tensor,
    *,
    global_tokens: float,
    options: PolicyLossConfig | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    reference_logprobs: torch.Tensor | None = None,
) -> PolicyLoss:
    """Minus Eq. 1.

    logprobs: [b, s] of the taken tokens, with gradient; old_logprobs: [b, s], by the trainer before the updates;
    advantages: [b, s] or [b, 1]; loss_mask: [b, s], 1 on response tokens; global_tokens: the sum of the loss masks of
    the WHOLE mini-batch; rollout_logprobs: [b, s] of the engine, for `importance_cap` and the gap metric;
    reference_logprobs: [b, s] of the policy that the run started from, for `kl_coefficient`. Values at masked places
    are ignored, NaN included.
    """
    options = options or PolicyLossConfig()
    if global_tokens <= 0:
        raise ValueError(f"global_tokens is {global_tokens}: a mini-batch needs at least one token")
    mask = loss_mask.bool()
    zero = torch.zeros((), dtype=logprobs.dtype, device=logprobs.device)
    # A masked NaN times 0 is NaN: replace before any arithmetic.
    log_ratio = torch.where(mask, logprobs - old_logprobs, zero)
    advantages = torch.where(mask, advantages.expand_as(log_ratio), zero)
    if options.log_ratio_limit is not None:
        log_ratio = log_ratio.clamp(-options.log_ratio_limit, options.log_ratio_limit)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - options.clip_ratio_low, 1 + options.clip_ratio_high)
    objective = torch.minimum(ratio * advantages, clipped * advantages)
    if options.dual_clip is not None:
        objective = torch.where(advantages < 0, torch.maximum(objective, options.dual_clip * advantages), objective)
    if options.importance_cap is not None:
        objective = objective * importance_weights(old_logprobs, rollout_logprobs, mask, options.importance_cap)
    loss = -torch.where(mask, objective, zero).sum() / global_tokens
    sums, maxima = token_sums(log_ratio.detach(), advantages, mask, options)
    if options.kl_coefficient:
        divergence = reference_divergence(logprobs, reference_logprobs, mask, options.kl_coefficient)
        loss = loss + options.kl_coefficient * divergence.sum() / global_tokens
        sums["reference_kl"] = divergence.detach().double().sum()
    if rollout_logprobs is not None:
        gap = torch.where(mask, old_logprobs - rollout_logprobs, zero).detach().abs()
        sums["rollout_gap"], maxima["rollout_gap"] = gap.double().sum(), gap.max()
    return PolicyLoss(loss, sums, maxima)


def importance_weights(
    old_logprobs: torch.Tensor, rollout_logprobs: torch.Tensor | None, mask: torch.Tensor, cap: float
) -> torch.Tensor:
    """min(pi_old / pi_rollout, cap) a token, 1 at masked places; no gradient. [b, s]"""
    if rollout_logprobs is None:
        raise ConfigError("importance_cap", cap, "needs the engine's log-probabilities")
    gap = torch.where(mask, old_logprobs - rollout_logprobs, torch.zeros_like(old_logprobs)).detach()
    return gap.exp().clamp(max=cap)


def reference_divergence(
    logprobs: torch.Tensor, reference_logprobs: torch.Tensor | None, mask: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """pi_ref / pi - log(pi_ref / pi) - 1 of each taken token, 0 at masked places: an estimate of KL(pi || pi_ref) that
    is never below 0 (DeepSeekMath, eq. 4). [b, s], with gradient"""
    if reference_logprobs is None:
        raise ConfigError("kl_coefficient", coefficient, "needs the log-probabilities of the policy at the start")
    log_ratio = torch.where(mask, reference_logprobs.detach() - logprobs, torch.zeros_like(logprobs))
    return log_ratio.expm1() - log_ratio


def token_sums(
    log_ratio: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, options: PolicyLossConfig
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Sums and maxima over the unmasked tokens. All [b, s].

    tokens; ratio; clipped_high and clipped_low (tokens whose gradient the clip removes: above 1 + eps_high with A > 0,
    below 1 - eps_low with A < 0); kl (log pi_old - log pi, the plain estimate of KL(old || new)); dual_clipped.
    """
    ratio = log_ratio.exp()
    high = (ratio > 1 + options.clip_ratio_high) & (advantages > 0) & mask
    low = (ratio < 1 - options.clip_ratio_low) & (advantages < 0) & mask
    sums = {
        "tokens": mask.double().sum(),
        "ratio": torch.where(mask, ratio, torch.zeros_like(ratio)).double().sum(),
        "clipped_high": high.double().sum(),
        "clipped_low": low.double().sum(),
        "kl": -log_ratio.double().sum(),
    }
    if options.dual_clip is not None:
        sums["dual_clipped"] = ((ratio > options.dual_clip) & (advantages < 0) & mask).double().sum()
    return sums, {"ratio": torch.where(mask, ratio, torch.ones_like(ratio)).max()}


def mask_overlong(loss_mask: torch.Tensor, truncated: torch.Tensor) -> torch.Tensor:
    """Overlong masking: a loss mask [b, s] without the samples that `truncated` [b] marks as cut at the budget.

    The tokens that are left are what `global_tokens` must count.
    """
    return loss_mask * (~truncated.bool()).to(loss_mask.dtype).unsqueeze(-1)


def token_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of every distribution: logits [..., v] -> [...], in float32 at least; for metrics."""
    logits = logits.detach()
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)
