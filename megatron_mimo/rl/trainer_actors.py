"""The trainer's ranks as Ray actors, one process each, behind the calls of one object."""

import asyncio
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.platform.network import free_port
from megatron_mimo.rl.sample import SampleGroup
from megatron_mimo.rl.train_batch import TrainBatch
from megatron_mimo.rl.weight_broadcast import MeetingPoint


class TrainerFailed(UserError):
    """A rank failed or died, and the others were ended: start the run again, it resumes from its last checkpoint."""


class TrainerRank:
    """What runs in each actor: process groups, and a PolicyTrainer inside them."""

    def __init__(self, config: RLConfig, rank: int) -> None:
        self._config, self._rank = config, rank
        self._stack = ExitStack()
        self._trainer: Any = None

    def address(self) -> tuple[str, int]:
        """Host and a free port of this rank, where the ranks can meet."""
        import ray

        return ray.util.get_node_ip_address(), free_port(host="")

    def with_number_format(self) -> RLConfig:
        """The configuration with its number format decided here, on the device that trains."""
        from megatron_mimo.training.number_format import with_number_format

        return with_number_format(self._config)

    def start(self, address: tuple[str, int], config: RLConfig) -> None:
        """Meet the other ranks; build model and optimizer from start.checkpoint."""
        from megatron_mimo.platform import cpu

        self._config = config
        warnings.filterwarnings("ignore", module="megatron")
        cpu.install()
        try:
            self._enter(address)
        except ConfigError as error:
            # Ray sends errors pickled, and this class cannot be.
            raise UserError(str(error)) from None

    def _enter(self, address: tuple[str, int]) -> None:
        from megatron_mimo.rl.policy_run import resolve_start
        from megatron_mimo.rl.policy_trainer import PolicyTrainer
        from megatron_mimo.training.distributed import distributed

        world = self._config.trainer_world_size
        # Ray shows every actor its own GPU alone: it is number 0 to each.
        place = {"RANK": self._rank, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": world}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": address[0], "MASTER_PORT": str(address[1])}
        config = resolve_start(self._config)
        self._stack.enter_context(distributed(config))
        self._trainer = PolicyTrainer(config)

    def train(self, batch: TrainBatch) -> dict[str, float]:
        return self._trainer.train(batch)

    def write_weights(self, folder: Path) -> None:
        self._trainer.write_weights(folder)

    def send_weights(self, point: MeetingPoint) -> str | None:
        return self._trainer.send_weights(point)

    def save(self, step: int, driver_state: dict[str, Any]) -> None:
        self._trainer.save(step, driver_state)

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        """Every rank loads; the first answers."""
        restored = self._trainer.restore()
        return restored if self._rank == 0 else None

    def close(self) -> None:
        """Finish what is still written; the process ends with the actor."""
        if self._trainer is not None:
            self._trainer.close()
        self._stack.close()


class TrainerGroup:
    """All ranks; every call goes to all of them at once, one call at a time.

    The first rank that fails ends the others, which would wait for it in a collective, and the call raises
    TrainerFailed, or the UserError that the rank raised.
    """

    def __init__(self, config: RLConfig) -> None:
        self.config = config
        """Once started, with the number format that the first rank has decided on."""
        self._ranks: list[Any] = []

    async def start(self) -> None:
        """Start the ranks under Ray, which must be initialised. Raises UserError for what PolicyTrainer refuses."""
        import ray

        on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        actor = ray.remote(TrainerRank).options(num_cpus=0, num_gpus=int(on_gpu))
        self._ranks = [actor.remote(self.config, rank) for rank in range(self.config.trainer_world_size)]
        (address,) = await self._call("address", ranks=self._ranks[:1])
        (self.config,) = await self._call("with_number_format", ranks=self._ranks[:1])
        await self._call("start", address, self.config)

    async def train(self, groups: Sequence[SampleGroup]) -> dict[str, float]:
        """All updates of a step from the complete groups of its rollout; see PolicyTrainer.train for the metrics."""
        import ray

        batch = ray.put(TrainBatch.from_groups(groups, self.config))
        return (await self._call("train", batch))[0]

    async def write_weights(self, folder: Path) -> None:
        """The present weights as a Hugging Face folder, complete once this returns."""
        await self._call("write_weights", folder)

    async def meeting_point(self, num_receivers: int) -> MeetingPoint:
        """Where `send_weights` and its receivers can meet."""
        ((host, port),) = await self._call("address", ranks=self._ranks[:1])
        return MeetingPoint(host, port, 1 + num_receivers)

    async def send_weights(self, point: MeetingPoint) -> str | None:
        """The present weights to the receivers; what went wrong on the way, or None."""
        return (await self._call("send_weights", point))[0]

    async def save(self, step: int, driver_state: dict[str, Any]) -> None:
        """One checkpoint of everything, `driver_state` (JSON values) included."""
        import ray

        await self._call("save", step, ray.put(driver_state))

    async def restore(self) -> tuple[int, dict[str, Any]] | None:
        """The step and driver state of the newest good checkpoint, its weights and optimizer loaded; None without."""
        return (await self._call("restore"))[0]

    async def close(self) -> None:
        """Let the ranks finish their checkpoints, then end them. Never raises: a failed rank has been reported."""
        if self._ranks:
            try:
                await self._call("close")
            except UserError:
                return
            self._kill()

    async def _call(self, method: str, *arguments: Any, ranks: list[Any] | None = None) -> list[Any]:
        """The results of all ranks, in their order."""
        if not self._ranks:
            raise TrainerFailed(f"the trainer's ranks are gone: {method} is not possible")
        calls = [_result(getattr(rank, method).remote(*arguments)) for rank in ranks or self._ranks]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [(number, task.exception()) for number, task in enumerate(tasks) if task.done() and task.exception()]
        if not failed:
            return [task.result() for task in tasks]
        self._kill()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise _explained(method, *failed[0])

    def _kill(self) -> None:
        import ray

        for rank in self._ranks:
            ray.kill(rank)
        self._ranks = []


async def _result(reference: Any) -> Any:
    return await reference


def _explained(method: str, rank: int, error: BaseException | None) -> UserError:
    """The UserError behind a rank's failure, or TrainerFailed with what Ray knows."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    return TrainerFailed(
        f"rank {rank} of the trainer failed in {method}, the others were ended; start the run again, it resumes from"
        f" its last checkpoint.\n{error}"
    )
