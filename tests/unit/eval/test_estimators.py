"""Estimators against brute force, published values and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from megatron_mimo.eval import estimators
from megatron_mimo.eval.estimators import compare, confidence_interval, pass_at_k, pass_at_k_curve, wilson


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_equals_counting_all_draws(n: int) -> None:
    for correct in range(n + 1):
        marks = [True] * correct + [False] * (n - correct)
        for k in range(1, n + 1):
            draws = list(itertools.combinations(marks, k))
            assert pass_at_k(n, correct, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws), abs=1e-12)


def test_pass_at_k_is_unbiased() -> None:
    # E over c ~ Binomial(n, p) is 1 - (1 - p)^k exactly.
    n, p = 12, 0.13
    for k in (1, 3, 12):
        expected = sum(stats.binom.pmf(c, n, p) * pass_at_k(n, c, k) for c in range(n + 1))
        assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (2, -1, 1)])
def test_impossible_pass_at_k_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)


def test_curve_ends_at_the_share_of_problems_ever_solved() -> None:
    scores = [[1, 0, 0], [0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]
    curve = pass_at_k_curve(scores)
    assert list(curve) == [1, 2, 3]
    assert curve[3] == 0.5
    assert curve[1] == pytest.approx((1 / 3 + 1) / 4)


def test_average_weighs_problems_equally() -> None:
    assert estimators.average_at_n([[1.0], [0.0, 0.0, 0.0]]) == 0.5
    with pytest.raises(ValueError, match="at least one score"):
        estimators.average_at_n([[1.0], []])


def test_wilson_equals_scipy() -> None:
    for correct, n in [(0, 30), (17, 30), (500, 500), (3, 1319)]:
        peer = stats.binomtest(correct, n).proportion_ci(method="wilson")
        ours = wilson(correct / n, n)
        assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_t_quantile_is_near_scipy() -> None:
    for freedom in (4, 9, 29, 500):
        assert estimators.t_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


@pytest.mark.parametrize(
    ("problems", "repetitions", "a", "b"), [(30, 32, 1.0, 1.0), (30, 32, 0.4, 0.3), (150, 1, 3.0, 1.0), (60, 8, 2, 4)]
)
def test_intervals_cover_95_percent(
    monkeypatch: pytest.MonkeyPatch, problems: int, repetitions: int, a: float, b: float
) -> None:
    """Difficulties drawn from Beta(a, b), answers from them; 500 simulated evaluations: standard error 1 %."""
    monkeypatch.setattr(estimators, "NUM_RESAMPLES", 1000)
    generator = np.random.default_rng(7)
    hits, trials = 0, 500
    for trial in range(trials):
        rates = generator.beta(a, b, problems)
        solved = generator.random((problems, repetitions)) < rates[:, None]
        interval = confidence_interval(solved.astype(float).tolist(), seed=trial)
        hits += interval.low <= a / (a + b) <= interval.high
    assert 0.92 <= hits / trials <= 0.985


def test_paired_difference_covers_and_rejects_at_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "NUM_RESAMPLES", 1000)
    generator = np.random.default_rng(3)
    covered, rejected, trials = 0, 0, 300
    for trial in range(trials):
        rates = generator.beta(1, 1, 60)
        first, second = (generator.binomial(8, rates)[:, None] / 8 for _ in range(2))
        comparison = compare(first.tolist(), second.tolist(), seed=trial)
        covered += comparison.difference.low <= 0 <= comparison.difference.high
        rejected += comparison.p_value < 0.05
    assert 0.91 <= covered / trials <= 0.99
    assert rejected / trials <= 0.09


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(5)
    first = generator.beta(0.5, 0.5, 100)
    second = np.clip(first + generator.normal(0.03, 0.02, 100), 0, 1)
    comparison = compare(first[:, None].tolist(), second[:, None].tolist())
    assert comparison.difference.low > 0
    assert comparison.p_value < 0.001
    assert confidence_interval(first[:, None].tolist()).high > second.mean()


def test_equal_models_do_not_differ() -> None:
    scores = [[1.0], [0.0], [1.0]]
    assert compare(scores, scores).p_value == 1.0
    with pytest.raises(ValueError, match="paired"):
        compare(scores, scores[:2])


def test_a_perfect_score_has_an_interval() -> None:
    interval = confidence_interval([[1.0]] * 30)
    assert interval.high == 1.0
    assert interval.low < 0.95
