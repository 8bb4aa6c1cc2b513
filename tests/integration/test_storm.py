"""The storm in its short form, a fault of most kinds; `python benchmarks/storm.py --faults 60` is the long one."""

from pathlib import Path

import pytest

from support.storm import KINDS, Storm

pytestmark = pytest.mark.slow
SHORT = tuple(kind for kind in KINDS if kind not in ("lost node", "SIGUSR1"))
"""Without those that have a near relation among the others."""


def test_a_short_storm(tmp_path: Path, tiny_data: Path) -> None:
    storm = Storm(tmp_path, tiny_data, seed=1)
    storm.blow(len(SHORT), SHORT)
    assert len(storm.faults) >= len(SHORT) - 1, storm.faults
