"""The pre-training objective and what is reported of it. Plain torch.

Shapes: `s`equence (local), `b`atch, `D` MTP layers or draft steps, `n` data sources.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def weighted_loss_sum(
    losses: Tensor, loss_mask: Tensor, mtp_loss_scaling_factor: float, depth_weights: Sequence[float] | None = None
) -> Tensor:
    """Sum over tokens of main loss + factor * mean over depths of the MTP loss (report section 3.2).

    losses, loss_mask: [1+D, b, s]; depth_weights: D of them, which sum to 1, None weighs all depths alike. The caller
    divides by the main loss's global token count, for the MTP terms as well: their own count is smaller by D tokens a
    sequence, and one divisor keeps the gradient independent of the layout.
    """
    masked = losses * loss_mask
    main = masked[0].sum()
    num_mtp_layers = losses.shape[0] - 1
    if num_mtp_layers == 0:
        return main
    if depth_weights is None:
        return main + mtp_loss_scaling_factor * masked[1:].sum() / num_mtp_layers
    weights = masked.new_tensor(depth_weights)
    return main + mtp_loss_scaling_factor * (weights * masked[1:].sum(dim=(1, 2))).sum()


def loss_statistics(losses: Tensor, loss_mask: Tensor, source: Tensor, num_sources: int) -> Tensor:
    """Sums and token counts, fp64 [2, 1+D, n]: by depth and data source, to be added over micro-batches and ranks."""
    masked = (losses.detach() * loss_mask).sum(dim=-1).double()
    counts = loss_mask.sum(dim=-1).double()
    statistics = torch.zeros(2, losses.shape[0], num_sources, dtype=torch.float64, device=losses.device)
    statistics[0].index_add_(1, source, masked)
    statistics[1].index_add_(1, source, counts)
    return statistics
