"""Which services keep a run's curves besides TensorBoard."""

from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.errors import ConfigError

TrackerKind = Literal["wandb", "mlflow", "swanlab"]


@dataclass(kw_only=True)
class TrackerConfig:
    """A tracker: it gets the configuration and every scalar that TensorBoard gets, and no text of the run."""

    kind: TrackerKind
    """Weights & Biases, MLflow or SwanLab; `pip install 'megatron-mimo[trackers]'` installs all three."""
    project: str = "megatron-mimo"
    """Project of the service, or MLflow's experiment; the run in it has the configuration's `name`."""
    offline: bool = False
    """Write to OUTPUT_DIR/trackers/KIND and send nothing. Otherwise the service's own environment variables say where
    to and with which key: WANDB_API_KEY, MLFLOW_TRACKING_URI, SWANLAB_API_KEY."""


def check_trackers(trackers: list[TrackerConfig]) -> None:
    """Raise ConfigError where a service is named twice: its two runs would be one."""
    kinds = [tracker.kind for tracker in trackers]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise ConfigError("logging.trackers", twice, "stands twice: name each service once")
