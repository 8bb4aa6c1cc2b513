"""Time limits as multiples of this machine's speed of the moment: a slow or busy machine is no failure."""

import time

USUAL_SECONDS = 0.1
"""What `_work` takes on one free core of the slowest machine for which the tests' limits were chosen."""
EVERY_SECONDS = 60.0
_slowness, _looked_at = 1.0, float("-inf")


def patience(seconds: float) -> float:
    """`seconds` on an ordinary free machine, in seconds here and now."""
    return seconds * slowness()


def slowness() -> float:
    """How many times as long as usual work takes: the worst that was seen in this session, looked at once a minute."""
    global _looked_at
    if time.monotonic() > _looked_at + EVERY_SECONDS:
        started = time.monotonic()
        _work()
        _looked_at = time.monotonic()
        observe(_looked_at - started, USUAL_SECONDS)
    return _slowness


def observe(seconds: float, usual: float) -> None:
    """Some work took `seconds`, and takes `usual` on an ordinary free machine."""
    global _slowness
    _slowness = max(_slowness, seconds / usual)


def _work() -> int:
    return sum(number * number for number in range(1_000_000))
