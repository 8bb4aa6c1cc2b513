"""What a step's updates report: sums over tokens become the means that a reader wants."""

import math
from dataclasses import dataclass

MEANS = ("ratio", "clipped_high", "clipped_low", "dual_clipped", "kl", "reference_kl", "rollout_gap", "mtp_loss")


@dataclass(frozen=True)
class PolicyReport:
    """One mini-batch over all rows and ranks, the same numbers on every rank: see `policy_loss.token_sums`."""

    sums: dict[str, float]
    """Also `loss`, which the token count has divided already, `entropy`, and of MTP layers that are trained
    `mtp_loss`."""
    maxima: dict[str, float]

    @property
    def loss(self) -> float:
        """Of the mini-batch."""
        return self.sums["loss"]


@dataclass(frozen=True)
class Update:
    """One gradient update, or one that the guard left out."""

    report: PolicyReport
    grad_norm: float
    """Before clipping; without the MTP layers'."""
    skipped: bool
    mtp_grad_norm: float | None = None
    """Of the MTP layers' gradient, where they are trained; one that is not finite was left out."""


def step_metrics(updates: list[Update], scored_entropy: float) -> dict[str, float]:
    """Metrics of one step; updates that were left out count in `tokens` and `skipped_updates` alone.

    `scored_entropy`: summed over tokens, where it was computed before the updates.
    """
    applied = [update for update in updates if not update.skipped]
    sums = [update.report.sums for update in applied]
    maxima = [update.report.maxima for update in applied]
    tokens = sum(part["tokens"] for part in sums)
    per_token = 1 / tokens if tokens else 0.0
    norms = [update.grad_norm for update in applied] or [0.0]
    all_tokens = sum(update.report.sums["tokens"] for update in updates)
    entropy = scored_entropy / all_tokens if scored_entropy else sum(part["entropy"] for part in sums) * per_token
    return {
        "loss": sum(part["loss"] for part in sums) / max(len(sums), 1),
        **{name: sum(part[name] for part in sums) * per_token for name in MEANS if any(name in part for part in sums)},
        **{f"{name}_max": max(part[name] for part in maxima) for name in (maxima[0] if maxima else ())},
        "entropy": entropy,
        "grad_norm": sum(norms) / len(norms),
        "grad_norm_max": max(norms),
        "tokens": all_tokens,
        **_mtp_norms(applied),
        "updates": float(len(applied)),
        "skipped_updates": float(len(updates) - len(applied)),
    }


def _mtp_norms(applied: list[Update]) -> dict[str, float]:
    """`mtp_grad_norm` over the updates that had one, and `mtp_skipped_updates`; nothing where the layers are frozen."""
    norms = [update.mtp_grad_norm for update in applied if update.mtp_grad_norm is not None]
    finite = [norm for norm in norms if math.isfinite(norm)]
    if not norms:
        return {}
    mean = sum(finite) / len(finite) if finite else 0.0
    return {"mtp_grad_norm": mean, "mtp_skipped_updates": float(len(norms) - len(finite))}
