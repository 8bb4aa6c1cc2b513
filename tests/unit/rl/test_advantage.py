"""Group advantages against the statistics module."""

import random
import statistics

import pytest
import torch

from megatron_mimo.rl.advantage import group_advantages
from megatron_mimo.rl.sample import has_signal


def test_equals_the_formula_in_any_order() -> None:
    generator = random.Random(1)
    groups = {7: [1.0, 0.0, 0.0, 1.0, 1.0], -2: [0.3, 0.9, 0.1], 40: [2.0, 5.0]}
    pairs = [(number, reward) for number, rewards in groups.items() for reward in rewards]
    generator.shuffle(pairs)
    rewards = torch.tensor([reward for _, reward in pairs], dtype=torch.float64)
    advantages = group_advantages(rewards, torch.tensor([number for number, _ in pairs]))
    for (number, reward), advantage in zip(pairs, advantages.tolist(), strict=True):
        own = groups[number]
        assert advantage == pytest.approx((reward - statistics.mean(own)) / statistics.stdev(own), rel=1e-12)
    plain = group_advantages(rewards, torch.tensor([number for number, _ in pairs]), divide_by_std=False)
    assert plain.tolist() == pytest.approx([reward - statistics.mean(groups[number]) for number, reward in pairs])


def test_equal_rewards_give_exact_zeros() -> None:
    """Sixteen rewards of 0.3 have a float32 standard deviation of 3e-8 and a mean that is not 0.3."""
    rewards = torch.full((16,), 0.3)
    assert rewards.std() > 0
    assert not has_signal(rewards.tolist())
    assert group_advantages(rewards, torch.zeros(16, dtype=torch.int64)).tolist() == [0.0] * 16


def test_tiny_differences_are_signal() -> None:
    rewards = torch.tensor([0.3, 0.3, 0.3000001])
    assert has_signal(rewards.tolist())
    assert group_advantages(rewards, torch.zeros(3, dtype=torch.int64)).abs().min() > 0.1


def test_a_single_sample_has_none() -> None:
    assert group_advantages(torch.tensor([4.0]), torch.tensor([0])).tolist() == [0.0]
    assert group_advantages(torch.tensor([4.0, 2.0]), torch.tensor([0, 1]), divide_by_std=False).tolist() == [0.0, 0.0]


def test_epsilon() -> None:
    rewards = torch.tensor([0.0, 1.0], dtype=torch.float64)
    expected = 0.5 / (statistics.stdev([0, 1]) + 0.1)
    assert group_advantages(rewards, torch.zeros(2, dtype=torch.int64), epsilon=0.1).tolist() == pytest.approx(
        [-expected, expected]
    )


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="must be"):
        group_advantages(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))


def test_rounding_of_sums_is_no_signal() -> None:
    """Soft rewards 0.1 + 0.2 and 0.3 are one reward; divided by its deviation, their difference would be -1."""
    rewards = [0.1 + 0.2, 0.3, 0.3, 0.3]
    assert rewards[0] != rewards[1]
    assert not has_signal(rewards)
    advantages = group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    assert advantages.tolist() == [0.0] * 4
