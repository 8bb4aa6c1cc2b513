import asyncio
from typing import Any

from megatron_mimo.rl.draft_counts import drafts_between, read_counters
from megatron_mimo.rl.engine_protocol import EngineDied
from megatron_mimo.rl.vllm_engine import DraftCounters


class Engine:
    def __init__(self, name: str, counters: DraftCounters | Exception) -> None:
        self.name, self._counters = name, counters

    async def counters(self) -> DraftCounters:
        if isinstance(self._counters, Exception):
            raise self._counters
        return self._counters


class Silent:
    name = "simulated"


def test_engines_that_count_nothing_or_are_down_are_left_out() -> None:
    engines: list[Any] = [Engine("a", DraftCounters(10, 7)), Engine("b", EngineDied("gone")), Silent()]
    assert asyncio.run(read_counters(engines)) == {"a": (10, 7)}


def test_a_restarted_engine_counts_from_its_new_start() -> None:
    before = {"a": (100, 60), "b": (50, 50), "gone": (9, 9)}
    after = {"a": (130, 80), "b": (20, 5), "new": (4, 1)}
    assert drafts_between(before, after) == (30 + 20 + 4, 20 + 5 + 1)
    assert drafts_between({}, {}) == (0, 0)
