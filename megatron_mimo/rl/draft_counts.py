"""Drafted and accepted tokens of a step's rollout, of all engines together."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from megatron_mimo.rl.engine_protocol import EngineDied, RolloutFault

Counts = tuple[int, int]
"""Drafted and accepted tokens."""
ANSWER_SECONDS = 10.0
"""An engine that takes longer over two numbers hangs: the fleet's watch finds that by its requests."""


async def read_counters(engines: Sequence[Any], answer_seconds: float = ANSWER_SECONDS) -> dict[str, Counts | None]:
    """By engine, since each one's start; None for those that gave no answer in time, which are named on stderr.

    All are asked at once. Engines that count nothing, or are down, are left out.
    """
    asked = {engine.name: asyncio.ensure_future(engine.counters()) for engine in engines if hasattr(engine, "counters")}
    if not asked:
        return {}
    # Not wait_for, which would wait for an engine to take the news that nobody waits for it.
    _, late = await asyncio.wait(asked.values(), timeout=answer_seconds)
    for answer in late:
        answer.cancel()
    found: dict[str, Counts | None] = {}
    for name, answer in asked.items():
        with suppress(EngineDied):
            found[name] = None if answer in late else _counts(answer)
    silent = ", ".join(name for name, counts in found.items() if counts is None)
    if silent:
        print(f"no count of drafts from {silent}: left out of this step's share", file=sys.stderr, flush=True)
    return found


def _counts(answer: "asyncio.Future[Any]") -> Counts | None:
    try:
        now = answer.result()
    except EngineDied:
        raise
    except RolloutFault:
        return None
    return now.draft_tokens, now.accepted_tokens


def drafts_between(before: Mapping[str, Counts | None], after: Mapping[str, Counts | None]) -> Counts:
    """What all engines counted between two readings; one that was started again in between counts from 0.

    An engine that was silent at either reading is left out: what it had counted before is not known.
    """
    drafted = accepted = 0
    for name, now in after.items():
        then = before.get(name, (0, 0))
        if now is None or then is None:
            continue
        if now[0] < then[0]:
            then = (0, 0)
        drafted += now[0] - then[0]
        accepted += now[1] - then[1]
    return drafted, accepted
