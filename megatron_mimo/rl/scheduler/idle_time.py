"""How long the engines of a step worked for its batch: the report's idle time (section 3.4)."""

from collections import defaultdict
from collections.abc import Iterable

from megatron_mimo.rl.scheduler.group_runner import Span


def busy_seconds(spans: Iterable[Span]) -> float:
    """Time an engine had a generation running that was finished, over all engines; what was aborted counts as idle."""
    by_engine: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in spans:
        if span.kind == "generation" and span.finished:
            by_engine[span.where].append((span.start_seconds, span.end_seconds))
    return sum(union_seconds(intervals) for intervals in by_engine.values())


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end) intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def idle_ratio(spans: Iterable[Span], num_engines: int, seconds: float) -> float:
    """Share of the engines' time in `seconds` that no finished generation used."""
    return 1 - busy_seconds(spans) / (num_engines * seconds) if seconds > 0 else 0.0
