"""Every group of ranks gives up as the run is configured, and not after NCCL's own ten minutes."""

from datetime import timedelta
from typing import Any

import pytest

from megatron_mimo.config import GuardConfig, ParallelConfig

pytest.importorskip("megatron.core")


@pytest.mark.parametrize(
    ("hang", "startup", "minutes"), [(600, 3600, 120), (600, 60, 20), (90, 0, 3), (0, 0, 60), (5400, 3600, 180)]
)
def test_limits_reach_the_groups(hang: float, startup: float, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the longer of the watchdog's limits, so that it has written the stacks before; an hour where it is off."""
    from megatron_mimo.training import distributed

    asked: dict[str, Any] = {}
    monkeypatch.setattr(distributed.parallel_state, "initialize_model_parallel", lambda **named: asked.update(named))
    limit = distributed.collective_timeout(GuardConfig(hang_timeout_seconds=hang, startup_timeout_seconds=startup))
    distributed.initialize_parallel_groups(ParallelConfig(context_parallel_size=2), limit)
    assert limit == timedelta(minutes=minutes)
    assert asked["distributed_timeout_minutes"] == minutes and asked["context_parallel_size"] == 2
