"""What the differences between two arms say: an interval over seeds and problems, and the rule that decides.

An outcome is measured for the same problems (or documents) in both arms and for every seed; the difference of a pair is
d[seed, problem]. Both are samples: another seed and another problem would have given other numbers. With both effects
random, d = mean + seed + problem + rest, the variance of the mean is (MS_seed + MS_problem - MS_rest) divided by seeds
times problems, by the mean squares of the two-way layout, and its degrees of freedom are Satterthwaite's (1946). The
subtraction is limited, so that the variance is never below what the seeds alone, or the problems alone, say.

Shapes: `s` seeds, `p` problems.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from megatron_mimo.claims.study import Expectation

FALSE_DISCOVERY_RATE = 0.05
COVERAGE = 0.95
POWER = 0.8
FLOOR = 1e-12
"""Below it a spread is rounding."""


@dataclass(frozen=True)
class Effect:
    """The mean difference of two arms."""

    mean: float
    standard_error: float
    freedom: float
    """Degrees of freedom of the standard error."""
    by_seed: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The edges of the 95 % interval."""
        half = self._quantile(0.5 + COVERAGE / 2) * self.standard_error
        return self.mean - half, self.mean + half

    @property
    def detectable(self) -> float:
        """The smallest true effect that such runs find in four of five repetitions, at a level of 5 %."""
        return (self._quantile(0.975) + self._quantile(POWER)) * self.standard_error

    def p_above(self, bound: float) -> float:
        """One-sided p-value against a true effect of `bound` or less."""
        if self.standard_error < FLOOR:
            return float(self.mean <= bound)
        return float(stats.t.sf((self.mean - bound) / self.standard_error, self.freedom))

    def p_below(self, bound: float) -> float:
        """One-sided p-value against a true effect of `bound` or more."""
        return 1.0 - self.p_above(bound) if self.standard_error >= FLOOR else float(self.mean >= bound)

    def _quantile(self, p: float) -> float:
        return float(stats.t.ppf(p, self.freedom))


@dataclass(frozen=True)
class Evidence:
    """What one question's effect says for and against what the claim expects."""

    p_agrees: float
    p_disagrees: float

    @property
    def p_value(self) -> float:
        """That either holds: two tests, hence twice the smaller."""
        return min(1.0, 2 * min(self.p_agrees, self.p_disagrees))

    @property
    def leaning(self) -> str:
        """The side of the smaller p-value."""
        return "agrees" if self.p_agrees <= self.p_disagrees else "disagrees"


def effect(arm: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> Effect:
    """Arm minus baseline; both `[s, p]`, with two seeds or more. Raises ValueError where they do not fit."""
    difference = np.asarray(arm, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if difference.ndim != 2 or len(difference) < 2:
        raise ValueError(f"differences of shape {difference.shape}: [seeds, problems] with two seeds or more")
    variance, freedom = variance_of_mean(difference)
    return Effect(float(difference.mean()), math.sqrt(variance), freedom, tuple(difference.mean(axis=1).tolist()))


def variance_of_mean(difference: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the mean of `[s, p]` and its degrees of freedom."""
    seeds, problems = difference.shape
    of_seeds = problems * float(difference.mean(axis=1).var(ddof=1))
    if problems == 1:
        return of_seeds / seeds, seeds - 1.0
    of_problems = seeds * float(difference.mean(axis=0).var(ddof=1))
    rest = difference - difference.mean(axis=1, keepdims=True) - difference.mean(axis=0) + difference.mean()
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (problems - 1))
    subtracted = min(of_rest, of_seeds, of_problems)
    total = of_seeds + of_problems - subtracted
    parts = (of_seeds, seeds - 1), (of_problems, problems - 1), (subtracted, (seeds - 1) * (problems - 1))
    spread = sum(square**2 / freedom for square, freedom in parts)
    return total / difference.size, total**2 / spread if spread > FLOOR**2 else seeds - 1.0


def evidence(found: Effect, expected: Expectation, margin: float) -> Evidence:
    """The p-values of both answers; `equal` by two one-sided tests (Schuirmann, 1987)."""
    if expected == "equal":
        inside = max(found.p_above(-margin), found.p_below(margin))
        return Evidence(inside, min(found.p_above(margin), found.p_below(-margin)))
    more, less = found.p_above(0.0), found.p_below(0.0)
    return Evidence(more, less) if expected == "more" else Evidence(less, more)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values after Benjamini and Hochberg (1995): those up to 5 % hold one false discovery in twenty on average."""
    return stats.false_discovery_control(p_values).tolist() if len(p_values) else []


def answer(found: Evidence, adjusted_p: float) -> str:
    """agrees, disagrees or cannot tell."""
    return found.leaning if adjusted_p <= FALSE_DISCOVERY_RATE else "cannot tell"


def verdict(answers: Sequence[str]) -> str:
    """Of a study: it agrees where every question does, and disagrees where one does."""
    if "disagrees" in answers:
        return "disagrees"
    return "cannot tell" if "cannot tell" in answers else "agrees"
