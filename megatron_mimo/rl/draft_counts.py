"""Drafted and accepted tokens of a step's rollout, of all engines together."""

from collections.abc import Mapping, Sequence
from typing import Any

from megatron_mimo.rl.engine_protocol import RolloutFault

Counts = tuple[int, int]
"""Drafted and accepted tokens."""


async def read_counters(engines: Sequence[Any]) -> dict[str, Counts]:
    """By engine, since each one's start; engines that count nothing, or are down, are left out."""
    found = {}
    for engine in engines:
        counters = getattr(engine, "counters", None)
        if counters is None:
            continue
        try:
            now = await counters()
        except RolloutFault:
            continue
        found[engine.name] = (now.draft_tokens, now.accepted_tokens)
    return found


def drafts_between(before: Mapping[str, Counts], after: Mapping[str, Counts]) -> Counts:
    """What all engines counted between two readings; one that was started again in between counts from 0."""
    drafted = accepted = 0
    for name, (all_drafted, all_accepted) in after.items():
        then = before.get(name, (0, 0))
        if all_drafted < then[0]:
            then = (0, 0)
        drafted += all_drafted - then[0]
        accepted += all_accepted - then[1]
    return drafted, accepted
