"""Lines on the console: how far a stage is, its speed, and when it will be done."""

import time
from collections.abc import Callable

from megatron_mimo.data.pipeline.markers import Marker
from megatron_mimo.platform.formats import format_seconds

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts the tasks of one stage as they finish."""

    def __init__(self, stage: str, num_tasks: int, finished: int, report: Callable[[str], None]) -> None:
        self.stage, self.num_tasks, self.finished, self.report = stage, num_tasks, finished, report
        self.kept_from_before = finished
        self.start = self.last_line = time.monotonic()
        self.documents = self.text_bytes = self.faults = 0

    def add(self, marker: Marker) -> None:
        """One more task is done; says so at most every ten seconds."""
        self.finished += 1
        self.documents += marker.counts.get("read/documents", 0)
        self.text_bytes += marker.counts.get("read/text_bytes", 0)
        self.faults += sum(number for name, number in marker.counts.items() if name.endswith("/faults"))
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES and self.finished < self.num_tasks:
            self.last_line = now
            self.report(f"{self._state()}, about {format_seconds(self.seconds_left(), decimals=1)} left")

    def seconds_left(self) -> float:
        """At the speed of this run so far."""
        done = self.finished - self.kept_from_before
        return (time.monotonic() - self.start) * (self.num_tasks - self.finished) / max(done, 1)

    def end(self) -> None:
        self.report(f"{self._state()} in {format_seconds(time.monotonic() - self.start, decimals=1)}")

    def _state(self) -> str:
        seconds = max(time.monotonic() - self.start, 1e-9)
        speed = f", {self.text_bytes / 1e6 / seconds:.1f} MB/s" if self.text_bytes else ""
        documents = f", {self.documents:,} documents" if self.documents else ""
        faults = f", {self.faults:,} faults" if self.faults else ""
        return f"{self.stage}: {self.finished} of {self.num_tasks} tasks{documents}{speed}{faults}"
