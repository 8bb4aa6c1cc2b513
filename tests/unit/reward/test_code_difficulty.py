"""Levels and rewards: worked out by hand, and against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import ConfigError
from megatron_mimo.reward.code_difficulty import assign_levels, max_reward, pass_rates, reward

SCORES = (1.0, 2.0, 4.0)
LEVELS = [0, 0, 1, 1, 1, 2]


def test_levels_by_hand() -> None:
    assert assign_levels([0.9, 0.1, 0.85, 0.5, 0.15, 0.55], 3) == [0, 2, 0, 1, 2, 1]
    assert assign_levels([0.5, 0.5, 0.5], 4) == [0, 0, 0], "equal rates cannot be told apart"
    assert assign_levels([1.0, 0.0], 1) == [0, 0]
    assert assign_levels([], 3) == []
    # Weights matter: ten tests at 0.0 hold their level's mean there, 0.3 goes with 0.5.
    assert assign_levels([0.0] * 10 + [0.3, 0.5], 2) == [1] * 10 + [0, 0]


def spread(rates: list[float], levels: list[int]) -> float:
    """Sum of squared distances to the level means."""
    groups = [np.array([r for r, own in zip(rates, levels, strict=True) if own == level]) for level in set(levels)]
    return sum(float(((group - group.mean()) ** 2).sum()) for group in groups)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=6), st.integers(1, 4))
def test_levels_are_the_best_of_all_partitions(sixteenths: list[int], num_levels: int) -> None:
    """Brute force over every labelling, contiguous or not."""
    rates = [n / 16 for n in sixteenths]
    levels = assign_levels(rates, num_levels)
    best = min(spread(rates, list(labels)) for labels in itertools.product(range(num_levels), repeat=len(rates)))
    assert spread(rates, levels) == pytest.approx(best, abs=1e-12)
    assert sorted(set(levels)) == list(range(min(num_levels, len(set(rates)))))
    for (a, x), (b, y) in itertools.combinations(zip(rates, levels, strict=True), 2):
        assert (a == b and x == y) or (a > b and x <= y) or (a < b and x >= y), "harder means a higher level"


@pytest.mark.parametrize(
    ("passed", "strict", "soft"),
    [
        ([1, 1, 1, 1, 1, 1], 7.0, 7.0),
        ([0, 0, 0, 0, 0, 0], 0.0, 0.0),
        ([1, 1, 1, 1, 0, 1], 1.0, 1 + 2 * 2 / 3 + 4),
        ([1, 1, 1, 1, 1, 0], 3.0, 3.0),
        ([1, 0, 1, 1, 1, 1], 0.0, 0.5 + 2 + 4),
        ([0, 1, 0, 0, 1, 0], 0.0, 0.5 + 2 / 3),
    ],
)
def test_rewards_by_hand(passed: list[int], strict: float, soft: float) -> None:
    results = [bool(ok) for ok in passed]
    assert reward(results, LEVELS, SCORES, "strict") == strict
    assert reward(results, LEVELS, SCORES, "soft") == pytest.approx(soft)


def naive(passed: list[bool], levels: list[int], scores: list[float], scheme: str) -> float:
    """The definition, read word by word."""
    total = 0.0
    for level in range(len(scores)):
        own = [i for i in range(len(levels)) if levels[i] == level]
        easier_or_own = [i for i in range(len(levels)) if levels[i] <= level]
        if own and scheme == "strict" and all(passed[i] for i in easier_or_own):
            total += scores[level]
        if scheme == "soft":
            total += sum(scores[level] / len(own) for i in own if passed[i])
    return total


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=12),
    st.lists(st.floats(0, 10), min_size=5, max_size=5),
    st.sampled_from(["strict", "soft"]),
)
def test_rewards_against_the_definition(tests: list[tuple[bool, int]], scores: list[float], scheme) -> None:
    passed, levels = [ok for ok, _ in tests], [level for _, level in tests]
    assert reward(passed, levels, scores, scheme) == pytest.approx(naive(passed, levels, scores, scheme))
    assert reward([True] * len(levels), levels, scores, scheme) == pytest.approx(max_reward(levels, scores))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_stopping_early_changes_no_strict_reward(tests: list[tuple[bool, int]]) -> None:
    """Tests after the first failure, in order of level, count as failed."""
    order = sorted(range(len(tests)), key=lambda i: tests[i][1])
    cut, failed = [False] * len(tests), False
    for i in order:
        failed = failed or not tests[i][0]
        cut[i] = not failed
    levels = [level for _, level in tests]
    assert reward(cut, levels, (1, 2, 3, 4)) == reward([ok for ok, _ in tests], levels, (1, 2, 3, 4))


def test_one_level_is_all_or_nothing() -> None:
    assert reward([True, True], [0, 0], [1.0]) == 1.0
    assert reward([True, False], [0, 0], [1.0]) == 0.0


def test_rates_and_refusals() -> None:
    assert pass_rates([[True, False], [True, True], [False, False], [True, False]]) == [0.75, 0.25]
    with pytest.raises(ConfigError, match="num_levels"):
        assign_levels([0.5], 0)
    with pytest.raises(ConfigError, match="pass_rates"):
        assign_levels([1.5], 2)
    with pytest.raises(ConfigError, match="passed"):
        reward([True], [0, 1], SCORES)
    with pytest.raises(ConfigError, match="level 3"):
        reward([True], [3], SCORES)
    with pytest.raises(ConfigError, match="scheme"):
        reward([True], [0], SCORES, "loose")  # type: ignore[arg-type]
