"""Verdicts on made-up loss curves; the limit of a spike is computed here with numpy."""

import json
import math

import numpy as np
import pytest

from megatron_mimo.config import GuardConfig
from megatron_mimo.training.guards import LossGuard

NOISE = np.random.default_rng(0)


def losses_around(mean: float, count: int) -> list[float]:
    return (mean + 0.05 * NOISE.standard_normal(count)).tolist()


def judge_all(guard: LossGuard, losses: list[float]) -> list[str]:
    return [guard.judge(loss, 1.0) for loss in losses]


@pytest.mark.parametrize("policy", ["skip", "rollback", "stop"])
@pytest.mark.parametrize(
    ("loss", "grad_norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf), (-math.inf, 1.0)]
)
def test_non_finite_numbers_follow_the_policy(policy: str, loss: float, grad_norm: float) -> None:
    guard = LossGuard(GuardConfig(on_non_finite=policy))  # type: ignore[arg-type]
    assert guard.judge(2.0, 1.0) == "ok"
    assert guard.judge(loss, grad_norm) == policy
    assert f"loss {loss}" in guard.reason and f"norm {grad_norm}" in guard.reason


@pytest.mark.parametrize("policy", ["skip", "rollback", "stop"])
def test_a_spike_is_what_exceeds_the_window_statistics(policy: str) -> None:
    config = GuardConfig(on_spike=policy, spike_window_steps=50, spike_deviations=6.0)  # type: ignore[arg-type]
    losses = losses_around(3.0, 80)
    limit = np.mean(losses[-50:]) + 6.0 * np.std(losses[-50:])
    for loss, verdict in ((limit - 1e-9, "ok"), (limit + 1e-9, policy)):
        guard = LossGuard(config)
        assert set(judge_all(guard, losses)) == {"ok"}
        assert guard.judge(float(loss), 1.0) == verdict


def test_no_spike_before_the_window_is_full_or_after_a_new_stage() -> None:
    guard = LossGuard(GuardConfig(on_spike="stop", spike_window_steps=20))
    assert judge_all(guard, [*losses_around(3.0, 19), 50.0]) == ["ok"] * 20
    guard.start_stage()
    assert judge_all(guard, [*losses_around(3.0, 19), 50.0]) == ["ok"] * 20


def test_ignored_spikes_are_accepted() -> None:
    guard = LossGuard(GuardConfig(on_spike="ignore", spike_window_steps=10))
    assert judge_all(guard, [*losses_around(3.0, 10), 50.0]) == ["ok"] * 11


def test_a_falling_loss_is_never_a_spike() -> None:
    guard = LossGuard(GuardConfig(on_spike="stop", spike_window_steps=10, spike_deviations=3.0))
    assert set(judge_all(guard, [10.0 * 0.99**i for i in range(300)])) == {"ok"}


def test_skipped_losses_do_not_move_the_statistics() -> None:
    guard = LossGuard(GuardConfig(on_spike="skip", spike_window_steps=20))
    judge_all(guard, losses_around(3.0, 20))
    window = guard.state_dict()["losses"]
    assert judge_all(guard, [9.0, math.nan, 9.0]) == ["skip"] * 3
    assert guard.state_dict()["losses"] == window


def test_bad_steps_in_a_row_stop_the_run_with_a_way_out() -> None:
    guard = LossGuard(GuardConfig(on_non_finite="skip", max_consecutive_events=3))
    assert judge_all(guard, [math.nan, math.nan, 2.0, math.nan, math.nan]) == ["skip", "skip", "ok", "skip", "skip"]
    assert guard.judge(math.nan, 1.0) == "stop"
    assert "3 bad steps in a row reach guard.max_consecutive_events=3" in guard.reason


def test_a_resumed_guard_judges_as_the_uninterrupted_one() -> None:
    """The state goes through JSON, as in a checkpoint, at every step of a curve with spikes and NaNs."""
    config = GuardConfig(on_spike="skip", spike_window_steps=15, spike_deviations=4.0, max_consecutive_events=4)
    losses = losses_around(3.0, 60)
    for bad in (20, 21, 22, 40, 55, 56, 57, 58):
        losses[bad] = 7.0 if bad % 2 else math.nan
    uninterrupted, resumed = LossGuard(config), LossGuard(config)
    for loss in losses:
        state = json.loads(json.dumps(resumed.state_dict()))
        resumed = LossGuard(config)
        resumed.load_state_dict(state)
        assert resumed.judge(loss, 1.0) == uninterrupted.judge(loss, 1.0)
        assert resumed.reason == uninterrupted.reason
    assert uninterrupted.judge(math.nan, 1.0) == "skip"


def run_with_rollbacks(
    guard: LossGuard, loss_at: dict[int, list[float]], checkpoint_step: int, steps: int
) -> list[str]:
    """A tiny trainer: `loss_at[step]` lists the losses of that step by attempt, the last one repeats."""
    verdicts, saved, step, attempts = [], None, 0, dict.fromkeys(range(1, steps + 1), 0)
    while step < steps:
        if step == checkpoint_step and saved is None:
            saved = guard.state_dict()
        step += 1
        tries = loss_at.get(step, [2.0])
        verdicts.append(f"{step} {guard.judge(tries[min(attempts[step], len(tries) - 1)], 1.0)}")
        attempts[step] += 1
        if verdicts[-1].endswith("rollback"):
            assert saved is not None
            guard.rolled_back(saved)
            step = checkpoint_step
        if verdicts[-1].endswith("stop"):
            break
    return verdicts


def test_a_passing_fault_is_healed_by_one_rollback() -> None:
    guard = LossGuard(GuardConfig(on_non_finite="rollback"))
    verdicts = run_with_rollbacks(guard, {4: [math.nan, 2.0]}, checkpoint_step=2, steps=5)
    assert verdicts == ["1 ok", "2 ok", "3 ok", "4 rollback", "3 ok", "4 ok", "5 ok"]


def test_a_fault_that_comes_again_is_skipped() -> None:
    guard = LossGuard(GuardConfig(on_non_finite="rollback"))
    verdicts = run_with_rollbacks(guard, {4: [math.nan]}, checkpoint_step=2, steps=5)
    assert verdicts == ["1 ok", "2 ok", "3 ok", "4 rollback", "3 ok", "4 skip", "5 ok"]


def test_rollbacks_to_one_checkpoint_are_limited() -> None:
    """Every step after the checkpoint fails once: each fault is new, but the run gets nowhere."""
    guard = LossGuard(GuardConfig(on_non_finite="rollback", max_consecutive_events=3))
    verdicts = run_with_rollbacks(guard, {s: [math.nan, 2.0] for s in range(3, 9)}, checkpoint_step=2, steps=9)
    assert [v for v in verdicts if "ok" not in v] == ["3 rollback", "4 rollback", "5 rollback", "6 stop"]
    assert "3 rollbacks to the same checkpoint" in guard.reason
