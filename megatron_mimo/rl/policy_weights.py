"""The policy's weights on their way from the trainer to the engines: folders in shared memory, or broadcasts."""

import asyncio
import itertools
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from megatron_mimo.config import UserError
from megatron_mimo.rl.engine_protocol import EngineDied, UpdatableEngine
from megatron_mimo.rl.weight_broadcast import MeetingPoint

logger = logging.getLogger(__name__)


class WeightsWriter(Protocol):
    """The trainer, as far as weights go."""

    async def write_weights(self, folder: Path) -> None: ...


class WeightsSender(WeightsWriter, Protocol):
    """rl/trainer_actors.TrainerGroup, or a stand-in."""

    async def meeting_point(self, num_receivers: int) -> MeetingPoint: ...

    async def send_weights(self, point: MeetingPoint) -> str | None:
        """What went wrong on the way to the receivers, or None."""
        ...


class ReceivingEngine(UpdatableEngine, Protocol):
    """rl/engine_actor.RayRolloutEngine, or a stand-in."""

    num_workers: int

    @property
    def is_running(self) -> bool: ...

    async def receive_weights(
        self, point: MeetingPoint, first_rank: int, policy_version: int, folder: Callable[[], Awaitable[Path]]
    ) -> None: ...


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
        self._current_version: int | None = None

    async def write(self, trainer: WeightsWriter, version: int) -> Path:
        """Write the trainer's weights; they become `current`."""
        folder = self._root / f"version_{version}"
        await trainer.write_weights(folder)
        self.current, self._current_version = folder, version
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


class BroadcastWeights(PolicyWeights):
    """From memory to memory; a folder is written for engines that start anew, and where a broadcast fails."""

    def __init__(self, parent: Path, name: str) -> None:
        super().__init__(parent, name)
        self._writing = asyncio.Lock()

    async def send(self, trainer: WeightsSender, engines: Sequence[ReceivingEngine], version: int) -> None:
        """Have every engine receive the weights. Raises EngineDied where one stays away for good."""

        async def folder() -> Path:
            async with self._writing:
                if self._current_version == version and self.current is not None:
                    return self.current
                return await self.write(trainer, version)

        previous, receivers = self.current, [engine for engine in engines if engine.is_running]
        failure = await self._broadcast(trainer, receivers, version, folder) if receivers else None
        if failure is not None:
            logger.warning("broadcasting the weights failed, they go by way of a folder: %s", failure)
            await super().send(trainer, engines, version)
            return
        if len(receivers) < len(engines):
            written = await folder()
            await asyncio.gather(*(update(engine, written, version) for engine in engines if not engine.is_running))
        if previous is not None:
            shutil.rmtree(previous, ignore_errors=True)
            self.current = None if self.current == previous else self.current

    async def _broadcast(
        self,
        trainer: WeightsSender,
        engines: Sequence[ReceivingEngine],
        version: int,
        folder: Callable[[], Awaitable[Path]],
    ) -> str | None:
        """What went wrong, or None."""
        ends = list(itertools.accumulate((engine.num_workers for engine in engines), initial=1))
        point = await trainer.meeting_point(ends[-1] - 1)
        calls = [
            engine.receive_weights(point, first_rank, version, folder)
            for engine, first_rank in zip(engines, ends, strict=False)
        ]
        sent, *received = await asyncio.gather(trainer.send_weights(point), *calls, return_exceptions=True)
        for result in (sent, *received):
            if isinstance(result, BaseException) and not isinstance(result, EngineDied):
                raise result
        failures = [str(result) for result in (sent, *received) if result is not None]
        return failures[0] if failures else None


async def update(engine: UpdatableEngine, folder: Path, version: int) -> None:
    """New weights for an engine; one that died is restarted on them, once."""
    try:
        await engine.update_weights(folder, version)
    except EngineDied:
        await engine.restart()
