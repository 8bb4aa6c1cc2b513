"""The rule of the claims: against scipy's tests where they agree, by simulation where it promises about chance."""

import numpy as np
import pytest
from scipy import stats

from megatron_mimo.claims.inference import adjusted, answer, effect, evidence, verdict


def test_one_number_per_seed_is_the_paired_t_test() -> None:
    arm, baseline = [2.1, 2.4, 2.2, 2.6], [1.9, 2.0, 2.3, 2.2]
    found = effect([[value] for value in arm], [[value] for value in baseline])
    known = stats.ttest_rel(arm, baseline)
    assert found.mean == pytest.approx(np.mean(arm) - np.mean(baseline))
    assert 2 * min(found.p_above(0), found.p_below(0)) == pytest.approx(known.pvalue)
    assert found.interval == pytest.approx(known.confidence_interval(0.95))


def test_many_problems_and_equal_seeds_is_the_t_test_over_problems() -> None:
    """Where seeds do not matter, problems alone decide, and repeating them with another seed adds nothing."""
    generator = np.random.default_rng(0)
    per_problem = generator.normal(0.1, 1.0, 200)
    found = effect([per_problem, per_problem, per_problem], np.zeros((3, 200)))
    known = stats.ttest_1samp(per_problem, 0.0)
    assert 2 * min(found.p_above(0), found.p_below(0)) == pytest.approx(known.pvalue, rel=1e-6)


@pytest.mark.parametrize(("of_seeds", "of_problems"), [(0.0, 0.0), (0.3, 0.0), (0.0, 1.0), (0.3, 1.0)])
def test_without_an_effect_one_in_twenty_is_called_one(of_seeds: float, of_problems: float) -> None:
    """Three seeds and 40 problems, with chance in seeds, in problems, in both or in neither."""
    generator, false_alarms, times = np.random.default_rng(7), 0, 2000
    for _ in range(times):
        seeds, problems = of_seeds * generator.normal(size=(3, 1)), of_problems * generator.normal(size=(1, 40))
        found = effect(seeds + problems + generator.normal(size=(3, 40)), np.zeros((3, 40)))
        false_alarms += 2 * min(found.p_above(0), found.p_below(0)) < 0.05
    assert false_alarms / times < 0.065


def test_the_smallest_detectable_effect_is_found_in_four_of_five() -> None:
    generator, times, hits, sizes = np.random.default_rng(3), 1500, 0, []
    for _ in range(200):
        sizes.append(effect(generator.normal(size=(4, 1)), np.zeros((4, 1))).detectable)
    true = float(np.mean(sizes))
    for _ in range(times):
        found = effect(true + generator.normal(size=(4, 1)), np.zeros((4, 1)))
        hits += 2 * min(found.p_above(0), found.p_below(0)) < 0.05
    assert 0.72 < hits / times < 0.9


def test_equality_needs_an_interval_inside_the_margin() -> None:
    small = effect([[0.01], [-0.01], [0.0], [0.005]], np.zeros((4, 1)))
    inside = evidence(small, "equal", 0.05)
    assert inside.leaning == "agrees" and inside.p_value < 0.05
    beyond = evidence(effect([[0.3], [0.31], [0.29], [0.3]], np.zeros((4, 1))), "equal", 0.05)
    assert beyond.leaning == "disagrees" and beyond.p_value < 0.05
    wide = evidence(effect([[0.3], [-0.3], [0.2], [-0.25]], np.zeros((4, 1))), "equal", 0.05)
    assert answer(wide, wide.p_value) == "cannot tell"


def test_the_direction_that_the_claim_expects_decides() -> None:
    up = effect([[1.0], [1.1], [0.9]], np.zeros((3, 1)))
    assert answer(evidence(up, "more", 0.0), 0.01) == "agrees"
    assert answer(evidence(up, "less", 0.0), 0.01) == "disagrees"
    assert answer(evidence(up, "less", 0.0), 0.2) == "cannot tell"
    assert verdict(["agrees", "agrees"]) == "agrees"
    assert verdict(["agrees", "cannot tell"]) == "cannot tell"
    assert verdict(["agrees", "cannot tell", "disagrees"]) == "disagrees"


def test_p_values_are_adjusted_as_benjamini_and_hochberg_say() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([]) == []


def test_equal_runs_are_equal() -> None:
    """Zero spread: a difference of nothing is no effect, and nothing divides by zero."""
    same = effect(np.ones((3, 5)), np.ones((3, 5)))
    assert evidence(same, "equal", 0.01).leaning == "agrees"
    assert answer(evidence(same, "more", 0.0), evidence(same, "more", 0.0).p_value) == "cannot tell"
    with pytest.raises(ValueError, match="two seeds or more"):
        effect([[1.0]], [[2.0]])
