"""The policy's weights on their way from the trainer to the engines: folders in shared memory."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from megatron_mimo.config import UserError
from megatron_mimo.rl.engine_protocol import EngineDied, UpdatableEngine


class WeightsWriter(Protocol):
    """The trainer, as far as weights go."""

    async def write_weights(self, folder: Path) -> None: ...


class PolicyWeights:
    """`current` is the newest complete folder; older ones are removed once every engine has left them.

    Not guaranteed: that anything is left of it after a reboot. A resumed run writes its weights anew.
    """

    def __init__(self, parent: Path, name: str) -> None:
        """parent: on CPU a tmpfs (/dev/shm), so that no disk is in the way. Raises UserError where it is missing."""
        try:
            self._root = Path(tempfile.mkdtemp(prefix=f"{name}-weights-", dir=parent))
        except OSError as error:
            raise UserError(f"cannot make a folder in engine.weights_folder = {str(parent)!r}: {error}") from error
        self.current: Path | None = None

    async def write(self, trainer: WeightsWriter, version: int) -> Path:
        """Write the trainer's weights; they become `current`."""
        folder = self._root / f"version_{version}"
        await trainer.write_weights(folder)
        self.current = folder
        return folder

    async def send(self, trainer: WeightsWriter, engines: Sequence[UpdatableEngine], version: int) -> None:
        """Write the weights, have every engine load them, remove the old. Raises EngineDied where one stays away."""
        previous = self.current
        folder = await self.write(trainer, version)
        await asyncio.gather(*(update(engine, folder, version) for engine in engines))
        if previous is not None and previous != folder:
            shutil.rmtree(previous, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


async def update(engine: UpdatableEngine, folder: Path, version: int) -> None:
    """New weights for an engine; one that died is restarted on them, once."""
    try:
        await engine.update_weights(folder, version)
    except EngineDied:
        await engine.restart()
