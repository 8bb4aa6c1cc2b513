"""The straggler report on made-up ranks."""

import pytest

from megatron_mimo.training.straggler import RankTimings, StragglerMonitor, find_stragglers, straggler_table


def ranks_with(**slow: dict[int, float]) -> list[RankTimings]:
    base = {"step_seconds": 2.0, "data_seconds": 0.01, "probe_seconds": 0.05}
    return [
        RankTimings(
            rank, f"node{rank // 4}", **{key: slow.get(key, {}).get(rank, value) for key, value in base.items()}
        )
        for rank in range(8)
    ]


def test_the_slowest_rank_and_its_host_are_named() -> None:
    report = find_stragglers(ranks_with(data_seconds={5: 0.4}, probe_seconds={2: 0.075, 3: 0.06}))
    found = {entry.timing: (entry.rank, entry.host, entry.ratio) for entry in report}
    assert found["data_seconds"] == (5, "node1", pytest.approx(40.0))
    assert found["probe_seconds"] == (2, "node0", pytest.approx(1.5))
    assert found["step_seconds"] == (0, "node0", pytest.approx(1.0))


def test_only_slow_ranks_are_marked() -> None:
    lines = straggler_table(find_stragglers(ranks_with(probe_seconds={2: 0.0625}))).splitlines()
    assert [line.split()[0] for line in lines if "slow" in line and "rank" not in line] == ["probe_seconds"]
    probe = next(line for line in lines if line.startswith("probe"))
    assert probe.split() == ["probe_seconds", "0.0500", "0.0625", "1.25", "2", "on", "node0", "<-", "slow"]


def test_microseconds_of_data_time_are_not_a_straggler() -> None:
    ranks = ranks_with(data_seconds=dict.fromkeys(range(8), 1e-06) | {3: 5e-4})
    assert "slow\n" not in straggler_table(find_stragglers(ranks)) + "\n"


def test_the_monitor_reports_the_mean_of_each_interval() -> None:
    monitor = StragglerMonitor(every_steps=3)
    reports = [monitor.record(step_seconds=float(i), data_seconds=0.5 * i) for i in range(1, 8)]
    assert [report is not None for report in reports] == [False, False, True, False, False, True, False]
    means = [[entry.median_seconds for entry in report[:2]] for report in reports if report]
    assert means == [[2.0, 1.0], [5.0, 2.5]]
    assert all(report[2].median_seconds > 0 for report in reports if report)


def test_zero_switches_it_off() -> None:
    monitor = StragglerMonitor(every_steps=0)
    assert [monitor.record(1.0, 0.0) for _ in range(5)] == [None] * 5
