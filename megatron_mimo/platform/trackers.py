"""The trackers of a run: services that keep its curves besides TensorBoard (platform/tracker_services.py).

They get the configuration and scalars by step, and no text of the run. A resumed run continues in the services;
steps that it repeats are drawn twice there. A service that fails is reported once and left out: it never ends a run,
whose metrics.jsonl has everything.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from megatron_mimo.config.errors import ConfigError
from megatron_mimo.config.trackers import TrackerConfig
from megatron_mimo.missing import is_installed
from megatron_mimo.platform.tracker_services import KINDS, TrackedRun, Tracker


def check_installed(configs: Sequence[TrackerConfig]) -> None:
    """Raise ConfigError where a tracker's package is missing: before the run, not hours into it."""
    for config in configs:
        if not is_installed(config.kind):
            way_out = f"its package is not installed: pip install {config.kind}, or leave it out"
            raise ConfigError("logging.trackers", config.kind, way_out)


class Trackers:
    """All trackers of a run."""

    def __init__(self, configs: Sequence[TrackerConfig], run: TrackedRun) -> None:
        """Open every one of them; nothing is asked at the terminal, on which a run must not wait."""
        self._open: dict[str, Tracker] = {}
        with no_questions():
            for config in configs:
                self._guarded(config.kind, partial(self._start, config, run))

    def _start(self, config: TrackerConfig, run: TrackedRun) -> None:
        run.folder(config.kind).mkdir(parents=True, exist_ok=True)
        self._open[config.kind] = KINDS[config.kind](config, run)
        where = f"{run.folder(config.kind)}, nothing is sent" if config.offline else f"project {config.project}"
        print(f"tracker {config.kind}: {where}", flush=True)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Send scalars of a step to all."""
        for kind, tracker in list(self._open.items()):
            self._guarded(kind, partial(tracker.log, scalars, step))

    def close(self) -> None:
        """End all runs in their services; calling it again does nothing."""
        for kind, tracker in list(self._open.items()):
            self._guarded(kind, tracker.finish)
            self._open.pop(kind, None)

    def _guarded(self, kind: str, action: Callable[[], None]) -> None:
        """A service's failure is reported, and the service left out from then on."""
        try:
            action()
        except Exception as error:
            self._open.pop(kind, None)
            first = str(error).strip().splitlines()[:1]
            said = f"{type(error).__name__}: {first[0] if first else ''}"
            print(f"tracker {kind} failed and is left out from here on ({said})", file=sys.stderr, flush=True)


@contextmanager
def no_questions() -> Iterator[None]:
    """Libraries that would ask for a key find no terminal, and fail instead."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = terminal
