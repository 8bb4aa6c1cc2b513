"""Estimators of accuracy: avg@n, unbiased pass@k, bootstrap intervals over problems, paired comparison.

Scores stand in a list a problem, one score in [0, 1] a repetition. Problems are what is resampled: repetitions of one
problem are no independent evidence, so that 30 problems with 32 repetitions count as 30.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

NUM_RESAMPLES = 10_000
COVERAGE = 0.95
Scores = Sequence[Sequence[float]]
"""Problem -> its repetitions' scores; at least one each, their numbers may differ."""


@dataclass(frozen=True)
class Interval:
    """An estimate between the edges of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Second minus first on the same problems."""

    difference: Interval
    p_value: float
    """Two-sided, sign-flip permutation test over problems: how often chance alone gives so large a difference."""
    num_problems: int


def average_at_n(scores: Scores) -> float:
    """Mean over problems of the mean over repetitions: pass@1 estimated by avg@n."""
    return float(np.mean(problem_means(scores)))


def problem_means(scores: Scores) -> np.ndarray:
    """Mean score of every problem, [problems]. Raises ValueError without any score."""
    if not scores or not all(len(repetitions) for repetitions in scores):
        raise ValueError("every problem needs at least one score")
    return np.array([float(np.mean(repetitions)) for repetitions in scores])


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that k of `num_samples` drawn without replacement hold a correct one: 1 - C(n - c, k) / C(n, k).

    The unbiased estimator of Chen et al., 2021, Equation 1. Raises ValueError unless 1 <= k <= n and 0 <= c <= n.
    """
    if not (1 <= k <= num_samples and 0 <= num_correct <= num_samples):
        raise ValueError(f"no pass@{k} of {num_correct} in {num_samples}")
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def pass_at_k_curve(scores: Scores) -> dict[int, float]:
    """pass@k at k = 1, 2, 4, ... and n, the fewest repetitions of any problem; score 1 is correct, less is not."""
    counts = [(len(repetitions), sum(score >= 1.0 for score in repetitions)) for repetitions in scores]
    most = min(n for n, _ in counts)
    steps = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    return {k: float(np.mean([pass_at_k(n, c, k) for n, c in counts])) for k in steps}


def confidence_interval(scores: Scores, seed: int = 0) -> Interval:
    """avg@n with its 95 % interval.

    One repetition scored 0 or 1: Wilson's, since the percentile bootstrap of a binomial covers too little near 0 and
    1 and gives no width at all to a perfect score. Otherwise the bootstrap over problems.
    """
    means = problem_means(scores)
    if set(means.tolist()) <= {0.0, 1.0}:
        return wilson(float(means.mean()), len(means))
    low, high = bootstrap(means, seed)
    return Interval(float(means.mean()), max(0.0, low), min(1.0, high))


def wilson(share: float, count: int) -> Interval:
    """Wilson's score interval of a share of `count` independent trials."""
    z2 = NormalDist().inv_cdf(0.5 + COVERAGE / 2) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Expanded percentile interval of the mean of `values` [problems] (Hesterberg, 2015, section 4).

    The percentiles are moved outwards by the t quantile and sqrt(n / (n - 1)): the plain percentile interval is too
    narrow for few problems.
    """
    n = len(values)
    if n < 2:
        return float(min(0.0, values.min())), float(max(1.0, values.max()))
    outer = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(0.5 + COVERAGE / 2, n - 1))
    means = resampled_means(values, seed)
    low, high = np.quantile(means, [outer, 1 - outer])
    return float(low), float(high)


def resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of NUM_RESAMPLES samples of the problems with replacement, in slices that fit in the cache."""
    generator = np.random.default_rng(seed)
    slices = max(1, NUM_RESAMPLES * len(values) // 4_000_000)
    sizes = [len(part) for part in np.array_split(np.arange(NUM_RESAMPLES), slices)]
    draws = [values[generator.integers(0, len(values), (size, len(values)))].mean(axis=1) for size in sizes]
    return np.concatenate(draws)


def compare(first: Scores, second: Scores, seed: int = 0) -> Comparison:
    """Paired comparison; problem i of both is the same. Raises ValueError for unequal numbers of problems."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} problems cannot be paired")
    differences = problem_means(second) - problem_means(first)
    low, high = bootstrap(differences, seed) if len(differences) > 1 else (-1.0, 1.0)
    return Comparison(
        Interval(float(differences.mean()), low, high), sign_flip_p_value(differences, seed), len(differences)
    )


def sign_flip_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of the mean difference under random exchange of the two models at every problem."""
    changed = differences[differences != 0]
    if not len(changed):
        return 1.0
    observed = abs(changed.sum()) - 1e-12
    generator, hits, block = np.random.default_rng(seed), 0, 500
    for _ in range(NUM_RESAMPLES // block):
        signs = generator.integers(0, 2, (block, len(changed))) * 2.0 - 1.0
        hits += int((abs(signs @ changed) >= observed).sum())
    return (hits + 1) / (NUM_RESAMPLES + 1)


def t_quantile(p: float, freedom: int) -> float:
    """Student's t quantile, Cornish-Fisher expansion about the normal's; within 1 % from 4 degrees on at 97.5 %."""
    z = NormalDist().inv_cdf(p)
    g = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / freedom**power for power, term in enumerate(g, start=1))
