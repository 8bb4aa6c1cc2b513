"""Group-relative advantages (report section 3.3): A_i = (R_i - mean(R)) / std(R) inside a prompt's group."""

import torch

from megatron_mimo.rl.sample import REWARD_ROUNDING


def group_advantages(
    rewards: torch.Tensor,
    group_index: torch.Tensor,
    *,
    divide_by_std: bool = True,
    epsilon: float = 0.0,
) -> torch.Tensor:
    """Advantage of every sample.

    rewards: [b], one a sample; group_index: int64 [b], equal for the samples of a group, any numbers in any order.
    The standard deviation is the unbiased one (n - 1), as in verl, TRL and OpenRLHF; `epsilon` is added to it (the
    report has none). A group whose rewards are equal up to the rounding of sums (rl/sample.py), or of one sample, gets
    exact zeros: divided by its standard deviation, rounding would become a signal. Without `divide_by_std` the mean is
    subtracted alone. Returns [b] in the rewards' dtype, computed in float64.
    """
    if rewards.ndim != 1 or rewards.shape != group_index.shape:
        raise ValueError(f"rewards {tuple(rewards.shape)} and group_index {tuple(group_index.shape)} must be [b] both")
    values = rewards.double()
    _, group = torch.unique(group_index, return_inverse=True)
    size = torch.bincount(group).double()
    deviation = values - (torch.zeros_like(size).index_add_(0, group, values) / size)[group]
    empty = torch.zeros_like(size)
    lowest = empty.scatter_reduce(0, group, values, "amin", include_self=False)
    highest = empty.scatter_reduce(0, group, values, "amax", include_self=False)
    if divide_by_std:
        square = torch.zeros_like(size).index_add_(0, group, deviation**2)
        deviation = deviation / ((square / (size - 1).clamp(min=1)).sqrt() + epsilon)[group]
    scale = torch.maximum(highest.abs(), lowest.abs()).clamp(min=1.0)
    equal = (highest - lowest <= REWARD_ROUNDING * scale)[group]
    return torch.where(equal, torch.zeros_like(deviation), deviation).to(rewards.dtype)
