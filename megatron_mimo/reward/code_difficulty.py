"""Test-difficulty-driven reward for code (MiMo-7B report, section 3.2).

Every test's pass rate over rollouts of several models puts it into a difficulty level (lower rate: harder); every level
has a score. Strict: a level's score is earned only if all its tests and all tests of all easier levels pass. Soft: a
level's score is split evenly over its tests; the reward is the sum over passed tests.

The report says "cluster" without naming the method. Here: exact one-dimensional k-means (dynamic programming over the
sorted distinct rates, weighted by how many tests have each), so the result depends on neither seed nor order.
`t`ests, `k` levels, `u` distinct pass rates.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from megatron_mimo.config import ConfigError


def assign_levels(pass_rates: Sequence[float], num_levels: int) -> list[int]:
    """Difficulty level of every test, 0 the easiest (highest pass rates).

    pass_rates: [t], each the share of rollouts that pass the test, in 0 ... 1. Levels minimise the sum of squared
    distances to their level's mean rate; tests of equal rate share a level, so there are min(num_levels, u) levels.
    Raises ConfigError for num_levels < 1 or a rate outside 0 ... 1.
    """
    if num_levels < 1:
        raise ConfigError("num_levels", num_levels, "must be at least 1")
    rates = np.asarray(pass_rates, dtype=np.float64)
    if rates.size and not (rates.min() >= 0 and rates.max() <= 1):
        raise ConfigError("pass_rates", float(rates.max()), "every pass rate lies in 0 ... 1")
    if not rates.size:
        return []
    distinct, inverse, counts = np.unique(-rates, return_inverse=True, return_counts=True)
    starts = best_starts(distinct, counts, min(num_levels, len(distinct)))
    level_of_distinct = np.searchsorted(starts, np.arange(len(distinct)), side="right") - 1
    return level_of_distinct[inverse].tolist()


def best_starts(values: np.ndarray, weights: np.ndarray, num_clusters: int) -> list[int]:
    """First index of every cluster in an optimal split of sorted `values` [u] into runs. O(k u^2)."""
    size = len(values)
    within = np.array([[run_cost(values, weights, first, last) for last in range(size)] for first in range(size)])
    cost, choice = within[0].copy(), [np.zeros(size, dtype=int)]
    for cluster in range(1, num_clusters):
        start, new_cost = np.zeros(size, dtype=int), np.full(size, np.inf)
        for last in range(cluster, size):
            totals = cost[cluster - 1 : last] + within[cluster : last + 1, last]
            start[last] = cluster + int(np.argmin(totals))
            new_cost[last] = totals.min()
        cost = new_cost
        choice.append(start)
    starts, last = [], size - 1
    for start in reversed(choice):
        starts.append(int(start[last]))
        last = starts[-1] - 1
    return starts[::-1]


def run_cost(values: np.ndarray, weights: np.ndarray, first: int, last: int) -> float:
    """Weighted sum of squared distances to the mean of values[first : last + 1]."""
    if first > last:
        return 0.0
    part, weight = values[first : last + 1], weights[first : last + 1]
    return float((weight * (part - np.average(part, weights=weight)) ** 2).sum())


def reward(
    passed: Sequence[bool],
    levels: Sequence[int],
    scores: Sequence[float],
    scheme: Literal["strict", "soft"] = "strict",
) -> float:
    """Reward of one solution.

    passed: [t], which tests it passed; levels: [t], from `assign_levels`; scores: [k], score of every level, the
    easiest first. Levels without a test earn nothing and stop nothing. A test that did not run counts as not passed:
    under `strict`, running levels in order and stopping at the first failure changes no reward. The most that can be
    earned is the sum of the scores of levels that have tests (`max_reward`).
    Raises ConfigError where lengths or levels do not fit.
    """
    if len(passed) != len(levels):
        raise ConfigError("passed", len(passed), f"one result a test, {len(levels)}")
    check_levels(levels, scores)
    if scheme == "strict":
        return strict_reward(passed, levels, scores)
    if scheme == "soft":
        return soft_reward(passed, levels, scores)
    raise ConfigError("scheme", scheme, "is 'strict' or 'soft'")


def strict_reward(passed: Sequence[bool], levels: Sequence[int], scores: Sequence[float]) -> float:
    earned = 0.0
    for level in sorted(set(levels)):
        if not all(ok for ok, own in zip(passed, levels, strict=True) if own == level):
            break
        earned += scores[level]
    return earned


def soft_reward(passed: Sequence[bool], levels: Sequence[int], scores: Sequence[float]) -> float:
    earned = 0.0
    for level in sorted(set(levels)):
        results = [ok for ok, own in zip(passed, levels, strict=True) if own == level]
        # One product a level, so that passing all its tests earns its score exactly.
        earned += scores[level] * (sum(results) / len(results))
    return earned


def max_reward(levels: Sequence[int], scores: Sequence[float]) -> float:
    """What a solution that passes every test earns. Raises ConfigError for a level without a score."""
    check_levels(levels, scores)
    return float(sum(scores[level] for level in sorted(set(levels))))


def check_levels(levels: Sequence[int], scores: Sequence[float]) -> None:
    for level in levels:
        if not 0 <= level < len(scores):
            raise ConfigError(
                "scores", list(scores), f"level {level} has no score: give one a level, the easiest first"
            )


def pass_rates(results: Sequence[Sequence[bool]]) -> list[float]:
    """Pass rate of every test over rollouts. results: [rollouts, t], of all models together; judge faults left out."""
    return np.asarray(results, dtype=np.float64).mean(axis=0).tolist() if len(results) else []
