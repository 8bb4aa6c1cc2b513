"""Named tensors to convert from, wherever they are stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Weights(Protocol):
    """A checkpoint seen as tensors by name."""

    @property
    def identity(self) -> dict[str, Any] | None:
        """What tells this source from another, or from itself after a change; None: it cannot be told."""
        ...

    def read(self, name: str) -> Tensor:
        """The whole tensor."""
        ...

    def read_meta(self, name: str) -> Tensor:
        """Its shape and number format, on the `meta` device."""
        ...


@dataclass(frozen=True)
class WeightsInMemory:
    """A state dict."""

    tensors: dict[str, Tensor]
    identity: None = None

    def read(self, name: str) -> Tensor:
        return self.tensors[name]

    def read_meta(self, name: str) -> Tensor:
        return self.tensors[name].to("meta")


def files_identity(paths: list[Path]) -> dict[str, Any]:
    """Place, size and time of change of each file."""
    return {str(path.resolve()): [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(paths)}
