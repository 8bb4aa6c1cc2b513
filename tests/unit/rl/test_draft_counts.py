import asyncio
import time
from typing import Any

import pytest

from megatron_mimo.rl.draft_counts import drafts_between, read_counters
from megatron_mimo.rl.engine_protocol import EngineDied, GenerationFailed
from megatron_mimo.rl.vllm_engine import DraftCounters


class Engine:
    def __init__(self, name: str, counters: DraftCounters | Exception) -> None:
        self.name, self._counters = name, counters

    async def counters(self) -> DraftCounters:
        if isinstance(self._counters, Exception):
            raise self._counters
        return self._counters


class CountsNothing:
    name = "simulated"


class Hanging:
    """Gives no answer, and does not take a cancellation for one either."""

    def __init__(self, name: str) -> None:
        self.name, self.cancelled = name, 0

    async def counters(self) -> DraftCounters:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > 1:  # the event loop's own, at its end
                    raise


class Answering:
    """Answers once all others were asked too."""

    def __init__(self, name: str, everybody: asyncio.Barrier) -> None:
        self.name, self._everybody = name, everybody

    async def counters(self) -> DraftCounters:
        await self._everybody.wait()
        return DraftCounters(5, 3)


def test_engines_that_count_nothing_or_are_down_are_left_out() -> None:
    engines: list[Any] = [Engine("a", DraftCounters(10, 7)), Engine("b", EngineDied("gone")), CountsNothing()]
    assert asyncio.run(read_counters(engines)) == {"a": (10, 7)}


def test_a_restarted_engine_counts_from_its_new_start() -> None:
    before = {"a": (100, 60), "b": (50, 50), "gone": (9, 9)}
    after = {"a": (130, 80), "b": (20, 5), "new": (4, 1)}
    assert drafts_between(before, after) == (30 + 20 + 4, 20 + 5 + 1)
    assert drafts_between({}, {}) == (0, 0)


def test_a_silent_engine_holds_nobody_up_and_is_left_out_of_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    engines: list[Any] = [Hanging("a"), Engine("b", DraftCounters(10, 7)), Hanging("c")]
    started = time.monotonic()
    counts = asyncio.run(read_counters(engines, answer_seconds=0.05))
    assert time.monotonic() - started < 5
    assert counts == {"a": None, "b": (10, 7), "c": None}
    assert "no count of drafts from a, c" in capsys.readouterr().err
    # What a silent engine had counted before its first answer is not this step's.
    assert drafts_between(counts, {"a": (900, 800), "b": (14, 9), "c": None}) == (4, 2)
    assert drafts_between({"a": (900, 800), "b": (4, 2)}, counts) == (6, 5)


def test_an_engine_that_lives_but_fails_to_answer_is_unknown_not_new() -> None:
    engines: list[Any] = [Engine("a", GenerationFailed("busy"))]
    assert asyncio.run(read_counters(engines)) == {"a": None}


def test_engines_are_asked_all_at_once() -> None:
    async def read() -> Any:
        everybody = asyncio.Barrier(3)
        engines: list[Any] = [Answering(name, everybody) for name in "abc"]
        return await read_counters(engines, answer_seconds=30)

    assert asyncio.run(read()) == dict.fromkeys("abc", (5, 3))
