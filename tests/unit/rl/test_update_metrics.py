import pytest

from megatron_mimo.rl.update_metrics import PolicyReport, Update, step_metrics


def update(tokens: float, ratio: float, highest: float, norm: float, skipped: bool = False) -> Update:
    sums = {"tokens": tokens, "ratio": tokens * ratio, "kl": 0.0, "loss": ratio, "entropy": 2 * tokens}
    return Update(PolicyReport(sums, {"ratio": highest}), norm, skipped)


def test_means_are_over_tokens_and_left_out_updates_do_not_count() -> None:
    updates = [update(10, 1.0, 1.5, 0.1), update(30, 2.0, 3.0, 0.3), update(60, float("nan"), 9.0, float("nan"), True)]
    metrics = step_metrics(updates, scored_entropy=0.0)
    assert metrics["ratio"] == pytest.approx((10 + 60) / 40)
    assert metrics["ratio_max"] == 3.0 and metrics["grad_norm_max"] == 0.3 and metrics["loss"] == 1.5
    assert (metrics["tokens"], metrics["updates"], metrics["skipped_updates"]) == (100, 2, 1)
    assert metrics["entropy"] == pytest.approx(2.0)
    assert step_metrics(updates, scored_entropy=50.0)["entropy"] == pytest.approx(0.5), "of all tokens"


def test_a_step_without_updates() -> None:
    assert step_metrics([], 0.0)["updates"] == 0
    assert step_metrics([update(5, 1.0, 1.0, 1.0, skipped=True)], 0.0)["skipped_updates"] == 1
