"""Cycles of objects go when the loop says so, and at no other time."""

import gc
import weakref

import pytest

from megatron_mimo.platform.garbage import SharedCollection


class Node:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_collected_after_every_second_step() -> None:
    with SharedCollection(2) as garbage:
        assert not gc.isenabled()
        seen = []
        for _ in range(4):
            cycle = weakref.ref(Node())
            [[] for _ in range(100_000)]  # more than what starts Python's own collection
            garbage.step_done()
            seen.append(cycle() is None)
        assert seen == [False, True, False, True]
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_an_error_gives_the_collector_back() -> None:
    with pytest.raises(KeyError), SharedCollection(1):
        raise KeyError
    assert gc.isenabled()


def test_nothing_changes_with_0_steps() -> None:
    with SharedCollection(0) as garbage:
        assert gc.isenabled() and gc.get_freeze_count() == 0
        garbage.step_done()
