"""A stage's mixture: weights by source, and the order in which the sources take turns.

The turns follow Tijdeman's rule ("The chairman assignment problem", 1980): in every prefix of n samples each of k
sources has its exact share to within 1 - 1/(2k - 2) of a sample. Weights are decimal fractions, so the turns repeat
after a short period, and the source of any sample is found without building an index of the whole stage.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.config.load import read_yaml

LONGEST_PERIOD = 100_000
ROUNDED_PERIOD = 20_000
"""Samples over which the shares of weights with a longer period are rounded to whole numbers, each at least one."""


@dataclass(frozen=True)
class Mixture:
    """Weights by source, summing to 1."""

    weights: dict[str, Fraction]
    is_rounded: bool = False
    """Whether they are those of the file to within 1 / ROUNDED_PERIOD only."""

    @property
    def period(self) -> int:
        """Number of samples after which the turns repeat, each source having had exactly its share."""
        return math.lcm(*(weight.denominator for weight in self.weights.values()))


def read_mixture(path: str | Path) -> Mixture:
    """Read `sources: {NAME: weight, ...}`: fractions, percents or token counts, which are normalized to 1.

    Raises UserError for unknown keys, and weights that are no positive numbers.
    """
    tree = read_yaml(Path(path))
    sources = tree.get("sources")
    if set(tree) != {"sources"} or not isinstance(sources, dict) or not sources:
        raise UserError(
            f"{path}: a mixture holds one key, sources, with a weight for each source; found {sorted(map(str, tree))}:"
            "\n    sources:\n      text: 0.6\n      code: 0.4"
        )
    weights = {str(name): _weight(path, name, weight) for name, weight in sources.items()}
    total = sum(weights.values())
    mixture = Mixture({name: weight / total for name, weight in weights.items()})
    if mixture.period <= LONGEST_PERIOD:
        return mixture
    if len(weights) > ROUNDED_PERIOD:
        raise UserError(f"{path}: more than {ROUNDED_PERIOD:,} sources, which is more than a mixture can take turns of")
    return Mixture(_rounded(mixture.weights), is_rounded=True)


def _rounded(weights: dict[str, Fraction]) -> dict[str, Fraction]:
    """The nearest shares of ROUNDED_PERIOD samples, by largest remainders; none of them 0."""
    parts = {name: max(1, int(weight * ROUNDED_PERIOD)) for name, weight in weights.items()}
    lacking = ROUNDED_PERIOD - sum(parts.values())
    while lacking:
        sign = 1 if lacking > 0 else -1
        adjustable = [name for name in parts if sign > 0 or parts[name] > 1]
        chosen = max(adjustable, key=lambda name: sign * (weights[name] * ROUNDED_PERIOD - parts[name]))
        parts[chosen] += sign
        lacking -= sign
    return {name: Fraction(part, ROUNDED_PERIOD) for name, part in parts.items()}


def _weight(path: str | Path, name: Any, weight: Any) -> Fraction:
    try:
        # PyYAML reads 84e9 as text.
        exact = Fraction(str(weight)) if isinstance(weight, int | float | str) else Fraction(0)
    except (ValueError, ZeroDivisionError):
        exact = Fraction(0)
    if isinstance(weight, bool) or exact <= 0:
        raise UserError(f"{path}: sources.{name} = {weight!r}: expected a number above 0; leave out unused sources")
    return exact


class Turns:
    """Which source gives sample i, and how many samples it gave before: for any i, in constant time."""

    def __init__(self, mixture: Mixture) -> None:
        self.sources = list(mixture.weights)
        self._order = _one_period(list(mixture.weights.values()), mixture.period)
        took = self._order[:, None] == np.arange(len(self.sources))
        self._before = np.vstack([np.zeros(len(self.sources), dtype=np.int64), np.cumsum(took, axis=0)])

    def __getitem__(self, index: int) -> tuple[int, int]:
        """`(source, position in the source's own samples)` of sample `index`."""
        periods, place = divmod(index, len(self._order))
        source = int(self._order[place])
        return source, periods * int(self._before[-1, source]) + int(self._before[place, source])

    def counts(self, num_samples: int) -> np.ndarray:
        """Samples each source has among the first `num_samples`, int64 [number of sources]."""
        periods, place = divmod(num_samples, len(self._order))
        return periods * self._before[-1] + self._before[place]


def _one_period(weights: list[Fraction], period: int) -> np.ndarray:
    """Tijdeman's rule in whole numbers: among the eligible sources, pick the earliest deadline."""
    shares = [int(weight * period) for weight in weights]
    if len(shares) == 1:
        return np.zeros(period, dtype=np.int64)
    slack = 2 * len(shares) - 2
    owed = [0] * len(shares)  # (weight x samples so far - samples taken) x period
    order = np.empty(period, dtype=np.int64)
    for place in range(period):
        owed = [debt + share for debt, share in zip(owed, shares, strict=True)]
        due = [source for source, debt in enumerate(owed) if slack * debt >= period]
        chosen = min(
            due, key=lambda source: (Fraction((slack - 1) * period - slack * owed[source], shares[source]), source)
        )
        order[place] = chosen
        owed[chosen] -= period
    return order
