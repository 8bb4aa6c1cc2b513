"""How engines are doing: decoding speed, silence, time-outs. Nothing here acts; fleet.py does.

An engine that hangs says nothing. Two signs betray it. It finishes nothing while the others finish so many that it
should have finished a dozen, by the share of requests that it holds: silence. Or a request takes longer than the whole
length budget takes at the measured speed: a time-out; several in a row are as bad as a death.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from megatron_mimo.config.rl import RetryConfig

SMOOTHING = 0.2
"""Weight of the newest request in an engine's speed."""
MIN_TOKENS = 8
"""Shorter responses measure the prompt, not the decoding."""
SILENCE_RESPONSES = 12.0
"""Responses that an engine should have finished since its last one, by the others' pace."""
MOST_OF_ONE = 2.0
"""One request counts as this many at most: a few long responses are no silence."""
SILENCE_AGE_RATIO = 2.0
"""And its oldest request has run for this many times a usual response: a fresh engine has nothing to finish yet."""
SLOW_RATIO = 0.7
"""Below this share of the median speed an engine gets seats in proportion."""
VERY_SLOW_RATIO = 0.25
"""Below this share it gets one request at a time, so that it can show itself mended."""

MEMORY_RESPONSES = 2000
"""Responses that the cost of load is estimated from, about."""
MIN_RESPONSES, MIN_SPREAD = 30, 0.1
"""Below so many of them, or where loads differ by less than this share of their mean, the cost is unknown."""


@dataclass
class LoadCost:
    """How much a further piece of work slows the others: a line through (load, seconds), by least squares over what was
    done, older work counting less. Of engines: requests and seconds per token; of the judge: samples that wait or are
    judged, and seconds of a judgement, its queue included."""

    weight: float = 0.0
    loads: float = 0.0
    paces: float = 0.0
    squares: float = 0.0
    products: float = 0.0

    def note(self, load: float, seconds: float) -> None:
        """A piece of work. load: how many shared its worker meanwhile."""
        keep = 1 - 1 / MEMORY_RESPONSES
        self.weight = self.weight * keep + 1
        self.loads = self.loads * keep + load
        self.paces = self.paces * keep + seconds
        self.squares = self.squares * keep + load * load
        self.products = self.products * keep + load * seconds

    @property
    def share(self) -> float:
        """Of the seconds at the mean load that grows with the load: 0 where more work costs nothing, 1 where all work
        shares a fixed speed, and where nothing is known."""
        if self.weight < MIN_RESPONSES:
            return 1.0
        load, pace = self.loads / self.weight, self.paces / self.weight
        variance = self.squares / self.weight - load * load
        if variance < (MIN_SPREAD * load) ** 2 or pace <= 0:
            return 1.0
        slope = (self.products / self.weight - load * pace) / variance
        return min(1.0, max(0.0, slope * load / pace))


@dataclass(kw_only=True)
class EngineRecord:
    """What one engine did; a line of the report."""

    name: str
    state: str = "alive"
    """alive, slow, restarting, given up."""
    tokens_per_second: float | None = None
    """Of one request, smoothed; null: nothing was finished yet."""
    finished: int = 0
    timeouts: int = 0
    silences: int = 0
    deaths: int = 0
    """Those by time-outs and silence included."""
    restarts: int = 0


@dataclass
class FleetSpeed:
    """Speed of the engines together."""

    finished: int = 0
    seconds: float = 0.0
    """Of all finished requests."""
    records: list[EngineRecord] = field(default_factory=list)
    load_cost: LoadCost = field(default_factory=LoadCost)
    _typical: float | None = None

    def note(self, record: EngineRecord, tokens: int, seconds: float, load: float | None = None) -> None:
        """A request was finished. load: requests on its engine on average meanwhile, null where nobody counted."""
        record.finished += 1
        self.finished += 1
        self.seconds += seconds
        if tokens >= MIN_TOKENS and seconds > 0:
            if load is not None:
                self.load_cost.note(load, seconds / tokens)
            rate, before = tokens / seconds, record.tokens_per_second
            record.tokens_per_second = rate if before is None else before + SMOOTHING * (rate - before)
            self._typical = None

    def forget(self, record: EngineRecord) -> None:
        """An engine that was started again is measured anew."""
        record.tokens_per_second = self._typical = None

    @property
    def typical(self) -> float | None:
        """Median tokens per second of the engines that are measured."""
        if self._typical is None:
            rates = [one.tokens_per_second for one in self.records if one.tokens_per_second is not None]
            self._typical = median(rates) if rates else None
        return self._typical

    def timeout_seconds(self, max_new_tokens: int, retry: RetryConfig) -> float:
        """Longest that a request may take: by what is set, else by what the length budget takes at the usual speed."""
        if retry.generation_timeout_seconds is not None:
            return retry.generation_timeout_seconds
        if self.typical is None:
            budget = max_new_tokens / retry.first_tokens_per_second
        else:
            budget = retry.timeout_factor * max_new_tokens / self.typical
        return max(retry.min_generation_timeout_seconds, budget)

    def share(self, record: EngineRecord) -> float:
        """Of its seats that an engine gets: all, or in proportion where it is slow."""
        typical = self.typical
        if typical is None or record.tokens_per_second is None:
            return 1.0
        ratio = record.tokens_per_second / typical
        return 1.0 if ratio >= SLOW_RATIO else ratio if ratio >= VERY_SLOW_RATIO else 0.0

    def is_silent(self, overdue: Iterable[float], oldest_seconds: float) -> bool:
        """Whether an engine hangs. overdue: of each of its requests, how many of its kind the others finished."""
        usual = self.seconds / self.finished if self.finished else float("inf")
        expected = sum(min(one, MOST_OF_ONE) for one in overdue)
        return expected > SILENCE_RESPONSES and oldest_seconds > SILENCE_AGE_RATIO * usual
