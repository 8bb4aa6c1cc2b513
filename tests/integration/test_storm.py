"""The storm in its short form, one fault of each kind; `python benchmarks/storm.py --faults 60` is the long one."""

from pathlib import Path

import pytest

from support.storm import LIVE, OFFLINE, Storm

pytestmark = pytest.mark.slow
KINDS = (*LIVE, *OFFLINE, "layout")


def test_a_short_storm(tmp_path: Path, tiny_data: Path) -> None:
    storm = Storm(tmp_path, tiny_data, seed=1)
    storm.blow(len(KINDS))
    assert len(storm.faults) >= len(KINDS) - 1, storm.faults
