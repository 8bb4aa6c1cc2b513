"""Best-fit packing against what any packing must hold, and against the fewest rows on small cases."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.data.chat.packing import pack_best_fit


@given(st.lists(st.integers(1, 50), max_size=60))
def test_every_sample_once_and_no_row_too_long(lengths: list[int]) -> None:
    rows = pack_best_fit(lengths, 50)
    assert sorted(sample for row in rows for sample in row) == list(range(len(lengths)))
    assert all(sum(lengths[sample] for sample in row) <= 50 for row in rows)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_at_most_eleven_ninths_of_the_fewest_rows(lengths: list[int]) -> None:
    def fits(assignment: tuple[int, ...]) -> bool:
        rows = range(max(assignment) + 1)
        return all(sum(n for n, row in zip(lengths, assignment, strict=True) if row == own) <= 10 for own in rows)

    assignments = itertools.product(range(len(lengths)), repeat=len(lengths))
    fewest = min(len(set(assignment)) for assignment in assignments if fits(assignment))
    assert len(pack_best_fit(lengths, 10)) <= 11 / 9 * fewest + 6 / 9


def test_a_long_tail_fills_the_rows() -> None:
    generator = random.Random(0)
    lengths = [min(32_768, int(generator.lognormvariate(7, 1.2)) + 1) for _ in range(20_000)]
    rows = pack_best_fit(lengths, 32_768)
    assert sum(lengths) / (len(rows) * 32_768) >= 0.98


def test_a_sample_longer_than_a_row() -> None:
    with pytest.raises(ValueError, match="sample 1 has 11 tokens"):
        pack_best_fit([3, 11], 10)
