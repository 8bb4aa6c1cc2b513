"""Weights & Biases, MLflow and SwanLab behind one interface: a run is opened or continued, gets scalars, and ends.

`OUTPUT_DIR/trackers/KIND.json` keeps the service's identity of the run, so that a resumed run continues it.
"""

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.config.trackers import TrackerConfig, TrackerKind
from megatron_mimo.platform.files import write_json

FOLDER = "trackers"
MLFLOW_BATCH = 100
"""Parameters in one request, at most."""


@dataclass(frozen=True)
class TrackedRun:
    """What a service is given of a run."""

    name: str
    output_dir: Path
    settings: dict[str, Any]
    """The resolved configuration."""

    def folder(self, kind: TrackerKind) -> Path:
        """Where the service's files lie."""
        return self.output_dir / FOLDER / kind

    def identity(self, kind: TrackerKind) -> str | None:
        """The service's identity of this run, where an earlier start has opened it."""
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads(self._file(kind).read_text(encoding="utf-8"))["run"])
        return None

    def keep_identity(self, kind: TrackerKind, run: str) -> None:
        """Remember it for the next start."""
        write_json(self._file(kind), {"run": run})

    def _file(self, kind: TrackerKind) -> Path:
        return self.output_dir / FOLDER / f"{kind}.json"


class Tracker(Protocol):
    """One open run of a service. Any call may raise what the service's library raises."""

    def log(self, scalars: Mapping[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class WandbTracker:
    """Weights & Biases. Curves can be drawn over `step` or `consumed_tokens`."""

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        import wandb

        identity = run.identity("wandb") or secrets.token_hex(8)
        self._run = wandb.init(
            project=config.project,
            name=run.name,
            id=identity,
            resume="allow",
            dir=str(run.folder("wandb")),
            config=run.settings,
            mode="offline" if config.offline else "online",
            settings=wandb.Settings(console="off"),
        )
        run.keep_identity("wandb", identity)
        # A resumed run repeats steps, which W&B's own counter would refuse.
        self._run.define_metric("*", step_metric="step")

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log({**scalars, "step": step})

    def finish(self) -> None:
        self._run.finish()


class MlflowTracker:
    """MLflow. Offline it writes an SQLite file, which `mlflow ui --backend-store-uri` shows."""

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        place = self._offline_place(run) if config.offline else os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            raise RuntimeError("MLFLOW_TRACKING_URI is not set; name the server, or set offline: true")
        self._client = MlflowClient(tracking_uri=place)
        self._identity = run.identity("mlflow") or self._new_run(config.project, run)
        self._client.update_run(self._identity, status="RUNNING")

    @staticmethod
    def _offline_place(run: TrackedRun) -> str:
        return f"sqlite:///{run.folder('mlflow').absolute() / 'mlflow.db'}"

    def _new_run(self, project: str, run: TrackedRun) -> str:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self._client.create_experiment(project)
        identity = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        params = [Param(key, value[:500]) for key, value in flat(run.settings)]
        for start in range(0, len(params), MLFLOW_BATCH):
            self._client.log_batch(identity, params=params[start : start + MLFLOW_BATCH])
        run.keep_identity("mlflow", identity)
        return identity

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._identity, [Metric(key, value, now, step) for key, value in scalars.items()])

    def finish(self) -> None:
        self._client.set_terminated(self._identity)


class SwanlabTracker:
    """SwanLab. It draws no value that is not finite."""

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        import swanlab

        folder = run.folder("swanlab")
        identity = run.identity("swanlab") or secrets.token_hex(11)[:21]
        continued = {} if config.offline else {"id": identity, "resume": "allow"}
        self._swanlab = swanlab
        swanlab.init(
            project=config.project,
            experiment_name=run.name,
            config=run.settings,
            logdir=str(folder),
            mode="offline" if config.offline else "cloud",
            **continued,
        )
        run.keep_identity("swanlab", identity)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._swanlab.log({key: value for key, value in scalars.items() if math.isfinite(value)}, step=step)

    def finish(self) -> None:
        self._swanlab.finish()


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of nested mappings and lists, with their values as text."""
    items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, dict) else None
    if items is None:
        yield prefix, str(tree)
        return
    for key, value in items:
        yield from flat(value, f"{prefix}.{key}" if prefix else str(key))


KINDS: dict[TrackerKind, Callable[[TrackerConfig, TrackedRun], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "swanlab": SwanlabTracker,
}
