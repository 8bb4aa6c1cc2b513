"""Eq. 1 as a policy loss of verl: without the dual clip and the clamp that verl's own one always has."""

from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_policy_loss

from megatron_mimo.config import ConfigError
from megatron_mimo.config.rl import PolicyLossConfig
from megatron_mimo.rl.policy_loss import policy_loss


@register_policy_loss("mimo")
def mimo_policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """verl's contract: all tensors [b, s]; returns the loss of this micro-batch and metrics.

    config: verl's ActorConfig; its global_batch_info counts the mini-batch's tokens over all ranks, and data-parallel
    ranks average their gradients, hence the factor dp_size. Raises ConfigError for what Eq. 1 does not have.
    """
    if loss_agg_mode != "token-mean":
        raise ConfigError("actor.loss_agg_mode", loss_agg_mode, "Eq. 1 is a mean over tokens: set token-mean")
    if rollout_is_weights is not None:
        raise ConfigError("algorithm.rollout_correction", "on", "is no part of Eq. 1: switch it off")
    low, high = config.clip_ratio_low, config.clip_ratio_high
    options = PolicyLossConfig(
        clip_ratio_low=config.clip_ratio if low is None else low,
        clip_ratio_high=config.clip_ratio if high is None else high,
    )
    batch = config.global_batch_info
    num_tokens = batch.get("batch_num_tokens")
    result = policy_loss(
        log_prob,
        old_log_prob,
        advantages,
        response_mask,
        global_tokens=float(response_mask.sum() if num_tokens is None else num_tokens),
        options=options,
    )
    sums = {name: float(value) for name, value in result.sums.items()}
    here = max(1.0, sums["tokens"])
    metrics = {
        "actor/pg_clipfrac": sums["clipped_high"] / here,
        "actor/pg_clipfrac_lower": sums["clipped_low"] / here,
        "actor/ppo_kl": sums["kl"] / here,
    }
    return result.loss * batch.get("dp_size", 1), metrics
