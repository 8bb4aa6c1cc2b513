"""Rollout engines in processes of their own: a Ray actor around each `VLLMRolloutEngine`, and the driver's end."""

import asyncio
import multiprocessing
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import EngineConfig
from megatron_mimo.rl.engine_protocol import EngineDied, Generation, GenerationRequest, RolloutFault
from megatron_mimo.rl.vllm_engine import DraftCounters, VLLMRolloutEngine, engine_environment
from megatron_mimo.rl.weight_broadcast import MeetingPoint

SPARE_CALLS = 16
"""Of an actor, beyond its requests: weights, counters."""


class EngineActor:
    """Runs inside the actor's process. Asynchronous methods make Ray call it on one event loop."""

    async def start(self, name: str, folder: Path, config: EngineConfig, policy_version: int) -> None:
        self._engine = VLLMRolloutEngine(name, folder, config, policy_version)

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._engine.generate(request)

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        await self._engine.update_weights(folder, policy_version)

    async def receive_weights(self, point: MeetingPoint, first_rank: int, policy_version: int) -> None:
        await self._engine.receive_weights(point, first_rank, policy_version)

    async def counters(self) -> DraftCounters:
        return await self._engine.counters()

    async def process_ids(self) -> list[int]:
        """This process's, then vLLM's."""
        return [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid is not None)]


class RayRolloutEngine:
    """What the driver holds of an engine: the RolloutEngine protocol, weights, and lives one after another.

    `folder` and every folder of `update_weights` must stay in place until the next one is loaded: a restart reads it.
    """

    def __init__(self, name: str, folder: Path, config: EngineConfig, policy_version: int = 0) -> None:
        """Nothing is started yet: `await start()`. Ray must be running then."""
        self.name, self.max_concurrent_requests = name, config.max_concurrent_requests
        self.num_workers = config.tensor_model_parallel_size
        self._config, self.policy_version = config, policy_version
        self._folder: Path | Callable[[], Awaitable[Path]] = folder
        self._actor: Any = None
        self._process_ids: list[int] = []
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Returns when the model is loaded. Raises EngineDied."""
        async with self._changing:
            await self._start()

    def abandon(self) -> None:
        """End the processes of an engine that hangs; its requests raise EngineDied."""
        self.close()

    async def restart(self) -> None:
        """Come back with the current weights; nothing to do where that has happened already. Raises EngineDied."""
        async with self._changing:
            if self._actor is None:
                await self._start()

    async def generate(self, request: GenerationRequest) -> Generation:
        """Cancelling aborts the request in vLLM. Raises RolloutFault."""
        actor = self._live_actor()
        return await self._call(actor, actor.generate.remote(request))

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        """As `VLLMRolloutEngine.update_weights`; an engine that is dead, or dies of it, is restarted with the folder.

        Raises UserError for a folder without a model (nothing changes), EngineDied where the restart fails too.
        """
        async with self._changing:
            before = self._folder, self.policy_version
            self._folder, self.policy_version = folder, policy_version
            try:
                actor = self._live_actor()
                await self._call(actor, actor.update_weights.remote(folder, policy_version))
            except EngineDied:
                await self._start()
            except BaseException:
                self._folder, self.policy_version = before
                raise

    async def receive_weights(
        self, point: MeetingPoint, first_rank: int, policy_version: int, folder: Callable[[], Awaitable[Path]]
    ) -> None:
        """As `VLLMRolloutEngine.receive_weights`. folder: writes the same weights out, should this engine have to come
        back with them. Raises EngineDied, and leaves the restart to the caller."""
        async with self._changing:
            actor = self._live_actor()
            self._folder, self.policy_version = folder, policy_version
            await self._call(actor, actor.receive_weights.remote(point, first_rank, policy_version))

    async def counters(self) -> DraftCounters:
        """Drafted and accepted tokens of this life."""
        actor = self._live_actor()
        return await self._call(actor, actor.counters.remote())

    @property
    def process_ids(self) -> list[int]:
        """Of the present life: the actor's first, then vLLM's. Empty for a dead engine."""
        return list(self._process_ids)

    @property
    def is_running(self) -> bool:
        return self._actor is not None

    def close(self) -> None:
        """End the engine's processes. Requests in flight raise EngineDied."""
        if self._actor is not None:
            self._bury(self._actor)

    def _live_actor(self) -> Any:
        if self._actor is None:
            raise EngineDied(f"{self.name} is not running")
        return self._actor

    async def _start(self) -> None:
        import ray

        self.close()
        folder = self._folder = self._folder if isinstance(self._folder, Path) else await self._folder()
        environment = {k: v for k, v in engine_environment(self._config).items() if os.environ.get(k) != v}
        on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        actor = (
            ray.remote(EngineActor)
            .options(
                num_cpus=self._config.actor_cpus,
                num_gpus=self._config.tensor_model_parallel_size if on_gpu else 0,
                max_concurrency=self.max_concurrent_requests + SPARE_CALLS,
                runtime_env={"env_vars": environment},
            )
            .remote()
        )
        self._actor = actor
        try:
            await self._call(actor, actor.start.remote(self.name, folder, self._config, self.policy_version))
            self._process_ids = await self._call(actor, actor.process_ids.remote())
        except BaseException:
            self._bury(actor)
            raise

    async def _call(self, actor: Any, result: Any) -> Any:
        """The result of a call, with Ray's errors as the scheduler's; cancelled here, it is cancelled there."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return await result
        except asyncio.CancelledError:
            ray.cancel(result)
            raise
        except RayActorError as error:
            self._bury(actor)
            raise EngineDied(f"{self.name}: {error}") from error
        except RayTaskError as error:
            if isinstance(error.cause, EngineDied):
                self._bury(actor)
            if isinstance(error.cause, RolloutFault | UserError):
                raise error.cause from None
            raise

    def _bury(self, actor: Any) -> None:
        """Kill the old process; ignore late messages from earlier incarnations."""
        import ray

        ray.kill(actor)
        if actor is self._actor:
            self._actor, self._process_ids = None, []


async def start_all(engines: Sequence[RayRolloutEngine]) -> None:
    """Start engines side by side; where one fails, close all and raise its error."""
    starts: list[Awaitable[None]] = [engine.start() for engine in engines]
    results = await asyncio.gather(*starts, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        for engine in engines:
            engine.close()
        raise errors[0]
