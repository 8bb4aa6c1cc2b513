"""The turns of the sources: exact shares in every prefix, at any index."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import UserError
from megatron_mimo.data.loading.mixture import Mixture, Turns, read_mixture

EXAMPLES = Path(__file__).parents[3] / "examples"
shares = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def mixture_of(parts: list[int]) -> Mixture:
    return Mixture({f"s{i}": Fraction(part, sum(parts)) for i, part in enumerate(parts)})


@given(parts=shares)
@settings(max_examples=80, deadline=None)
def test_every_prefix_is_within_one_sample_of_its_weight(parts: list[int]) -> None:
    turns, counts = Turns(mixture_of(parts)), np.zeros(len(parts), dtype=int)
    for n in range(2 * sum(parts) + 1):
        assert np.array_equal(turns.counts(n), counts)
        assert all(abs(counts[i] - Fraction(n * part, sum(parts))) < 1 for i, part in enumerate(parts))
        source, position = turns[n]
        assert position == counts[source]
        counts[source] += 1


def test_far_index_equals_counting() -> None:
    turns = Turns(mixture_of([5, 3, 2]))
    source, position = turns[10**15 + 7]
    assert turns.counts(10**15 + 7)[source] == position
    assert list(turns.counts(10**15)) == [5 * 10**14, 3 * 10**14, 2 * 10**14]


def test_weights_are_exact_decimals_and_normalized(write_mixture: Callable[[str], Path]) -> None:
    mixture = read_mixture(write_mixture("sources: {a: 0.1, b: 0.2, c: 0.3}"))
    assert list(mixture.weights.values()) == [Fraction(1, 6), Fraction(1, 3), Fraction(1, 2)]
    assert mixture.period == 6


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("sources: {}", "found"),
        ("source: {a: 1}", "one key, sources"),
        ("sources: {a: 1}\nseed: 2", "one key, sources"),
        ("sources: {a: 0}", "sources.a = 0"),
        ("sources: {a: -1}", "sources.a = -1"),
        ("sources: {a: .nan}", "sources.a = nan"),
        ("sources: {a: true}", "sources.a = True"),
        ("sources: {a: many}", "sources.a = 'many'"),
        ("sources: [a", "not valid YAML"),
    ],
)
def test_bad_mixture_file(text: str, cause: str, write_mixture: Callable[[str], Path]) -> None:
    path = write_mixture(text)
    with pytest.raises(UserError) as caught:
        read_mixture(path)
    assert cause in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("sources: {a: 0.333333, b: 0.333333, c: 0.333334}", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ("sources: {a: 1234567890, b: 987654321}", {"a": 0.5555555, "b": 0.4444444}),
        ("sources: {a: 0.01234567, b: 0.98765433}", {"a": 0.01234567, "b": 0.98765433}),
        ("sources: {a: 1e-9, b: 1, c: 2.000000001}", {"a": 1e-9, "b": 1 / 3, "c": 2 / 3}),
    ],
)
def test_any_weights_are_normalized(text: str, shares: dict[str, float], write_mixture: Callable[[str], Path]) -> None:
    """Fractions, token counts and many digits: to a 20,000th, and none is lost."""
    mixture = read_mixture(write_mixture(text))
    assert mixture.is_rounded and mixture.period <= 20_000 and sum(mixture.weights.values()) == 1
    for name, share in shares.items():
        assert mixture.weights[name] > 0
        assert abs(float(mixture.weights[name]) - share) <= 1.01 / 20_000


def test_percents_are_exact(write_mixture: Callable[[str], Path]) -> None:
    mixture = read_mixture(write_mixture("sources: {a: 33.3, b: 33.3, c: 33.4}"))
    assert not mixture.is_rounded and mixture.weights["c"] == Fraction(334, 1000)


def test_missing_mixture_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_mixture(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("model", "reasoning", "synthetic"),
    [
        ("nano", {"code", "arithmetic"}, {"synthetic"}),
        ("mimo_7b", {"code", "mathematics"}, {"synthetic_mathematics", "synthetic_code", "synthetic_writing"}),
    ],
)
def test_example_mixtures_have_the_shares_of_the_report(model: str, reasoning: set, synthetic: set) -> None:
    stages = [read_mixture(EXAMPLES / model / "mixtures" / f"stage{stage}.yaml").weights for stage in (1, 2, 3)]
    assert not synthetic & (set(stages[0]) | set(stages[1]))
    assert sum(stages[1][name] for name in reasoning) == Fraction(7, 10)
    assert sum(stages[2][name] for name in synthetic) == Fraction(1, 10)
