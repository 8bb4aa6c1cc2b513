"""Which rank is slow: timings of every rank, side by side.

In synchronous training all ranks wait for the slowest, so their step times are nearly equal and name nobody. Two more
numbers do: the time a rank waited for its data, and a probe, a fixed matrix product each rank times for itself.
"""

import dataclasses
import socket
import statistics
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

TIMINGS = ("step_seconds", "data_seconds", "probe_seconds")
SLOW_RATIO = 1.2
"""A timing this far above the median is worth a look."""
NEGLIGIBLE_SECONDS = 1e-3
"""A median below this says nothing: data that is always ready takes microseconds."""


@dataclass
class RankTimings:
    """Means of one rank over the last interval."""

    rank: int
    host: str
    step_seconds: float
    data_seconds: float
    """Waiting for the next batch."""
    probe_seconds: float
    """Best of a few fixed matrix products on this rank's device."""


@dataclass
class Straggler:
    """The slowest rank by one timing, against the median of all ranks."""

    timing: str
    median_seconds: float
    slowest_seconds: float
    rank: int
    host: str

    @property
    def ratio(self) -> float:
        """Slowest over median, with a median too small to mean anything raised to 1 ms."""
        return self.slowest_seconds / max(self.median_seconds, NEGLIGIBLE_SECONDS)


def find_stragglers(ranks: list[RankTimings]) -> list[Straggler]:
    """One entry for each of TIMINGS, from the numbers of all ranks; of equally slow ranks the first."""
    found = []
    for timing in TIMINGS:
        slowest = max(ranks, key=lambda rank: getattr(rank, timing))
        median = statistics.median(getattr(rank, timing) for rank in ranks)
        found.append(Straggler(timing, median, getattr(slowest, timing), slowest.rank, slowest.host))
    return found


def straggler_table(stragglers: list[Straggler]) -> str:
    """Lines of text for the log; a rank more than SLOW_RATIO above the median is marked."""
    lines = [f"{'timing':<14}{'median s':>10}{'slowest s':>11}{'ratio':>7}  slowest rank"]
    for entry in stragglers:
        mark = "  <- slow" if entry.ratio > SLOW_RATIO else ""
        numbers = f"{entry.median_seconds:>10.4f}{entry.slowest_seconds:>11.4f}{entry.ratio:>7.2f}"
        lines.append(f"{entry.timing:<14}{numbers}  {entry.rank} on {entry.host}{mark}")
    return "\n".join(lines)


class StragglerMonitor:
    """Collects this rank's timings; every `every_steps` steps all ranks exchange them. 0 switches it off."""

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps
        self._step_seconds: list[float] = []
        self._data_seconds: list[float] = []

    def record(self, step_seconds: float, data_seconds: float) -> list[Straggler] | None:
        """Add one step; on every `every_steps`-th call, which is a collective, the same report on all ranks."""
        if self.every_steps < 1:
            return None
        self._step_seconds.append(step_seconds)
        self._data_seconds.append(data_seconds)
        if len(self._step_seconds) < self.every_steps:
            return None
        mine = self._mean_timings()
        self._step_seconds.clear()
        self._data_seconds.clear()
        return find_stragglers(_gather(mine))

    def _mean_timings(self) -> RankTimings:
        step, data = statistics.fmean(self._step_seconds), statistics.fmean(self._data_seconds)
        rank = dist.get_rank() if dist.is_initialized() else 0
        return RankTimings(rank, socket.gethostname(), step, data, probe_seconds())


def probe_seconds(repeats: int = 5) -> float:
    """Shortest of `repeats` timed matrix products: 0.3 GFLOP on a CPU, 137 GFLOP (about 0.2 ms on an H100) on a GPU."""
    device, size, dtype = "cpu", 512, torch.float32
    if torch.cuda.is_available():
        device, size, dtype = "cuda", 4096, torch.bfloat16
    a = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(repeats):
        _synchronize()
        start = time.perf_counter()
        torch.matmul(a, a)
        _synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _gather(mine: RankTimings) -> list[RankTimings]:
    if not dist.is_initialized():
        return [mine]
    # Plain dictionaries of numbers and a name; the pickled objects come from this run's own ranks alone.
    everyone: list[dict[str, float | int | str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(everyone, dataclasses.asdict(mine))
    return [RankTimings(**timings) for timings in everyone]  # type: ignore[arg-type]
