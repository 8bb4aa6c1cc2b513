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


def test_mtp_layers_that_are_trained_are_reported_and_a_gradient_that_is_not_finite_is_counted() -> None:
    updates = [update(10, 1.0, 1.5, 0.1), update(30, 2.0, 3.0, 0.3), update(20, 1.0, 1.0, 0.2)]
    for one, norm, loss in zip(updates, (1.0, float("inf"), 2.0), (20.0, 90.0, 10.0), strict=True):
        one.report.sums["mtp_loss"] = loss
        object.__setattr__(one, "mtp_grad_norm", norm)
    metrics = step_metrics(updates, 0.0)
    assert metrics["mtp_loss"] == pytest.approx(120 / 60)
    assert (metrics["mtp_grad_norm"], metrics["mtp_skipped_updates"]) == (1.5, 1)
    assert not any("mtp" in name for name in step_metrics([update(10, 1.0, 1.5, 0.1)], 0.0)), "frozen"


def test_a_step_without_updates() -> None:
    assert step_metrics([], 0.0)["updates"] == 0
    assert step_metrics([update(5, 1.0, 1.0, 1.0, skipped=True)], 0.0)["skipped_updates"] == 1
