"""Groups to their end: every sample generated and scored in its own task, with retries and fault classes.

All that must survive lies in the groups; the runner can be stopped at any moment and another one started on them.
"""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.rl import RolloutConfig
from megatron_mimo.rl.engine_protocol import (
    EngineDied,
    Generation,
    GenerationFailed,
    GenerationRequest,
    RequestRejected,
    RewardFunction,
    RolloutFault,
    Score,
    ScoringFailed,
)
from megatron_mimo.rl.sample import Outcome, Sample, SampleGroup
from megatron_mimo.rl.scheduler.fleet import EngineFleet, Seat
from megatron_mimo.rl.scheduler.health import LoadCost
from megatron_mimo.rl.scheduler.ordered_slots import OrderedSlots

Clock = Callable[[], float]


@dataclass(frozen=True)
class Span:
    """A piece of work in the timeline of a step; seconds of the scheduler's clock."""

    kind: Literal["generation", "reward"]
    where: str
    """The engine, or `reward`."""
    launch_index: int
    sample_index: int
    start_seconds: float
    end_seconds: float
    finished: bool
    """False: aborted or failed; counts as idle time."""


class GroupRunner:
    """`start(group)` runs what the group lacks; `on_change(group)` is called whenever one of its samples moved on."""

    def __init__(
        self,
        fleet: EngineFleet,
        reward: RewardFunction,
        settings: RolloutConfig,
        on_change: Callable[[SampleGroup], None],
        clock: Clock,
        reward_concurrency: int | None = None,
        reward_cost: LoadCost | None = None,
    ) -> None:
        """reward_cost: where the judge's load and seconds are noted."""
        self._reward_cost = reward_cost
        self._fleet, self._reward, self._settings, self._on_change = fleet, reward, settings, on_change
        self._clock = clock
        self._reward_slots = OrderedSlots(reward_concurrency or settings.max_concurrent_rewards)
        self._tasks: dict[asyncio.Task[None], tuple[SampleGroup, int]] = {}
        self._unseated: set[tuple[int, int]] = set()
        self.may_score = asyncio.Event()
        """Cleared by policies that score after the generation of a whole round."""
        self.may_score.set()
        self._stopped = False
        self.pending_rewards = 0
        self.spans: list[Span] = []
        self.error: BaseException | None = None
        """A bug or NoEngines: the run cannot continue."""

    @property
    def num_unseated(self) -> int:
        """Samples that were started and have no seat on an engine yet."""
        return len(self._unseated)

    def start(self, group: SampleGroup) -> None:
        """Run every sample that is not scored yet."""
        loop = asyncio.get_running_loop()
        for index, sample in enumerate(group.samples):
            if sample is None or not sample.scored:
                task = loop.create_task(self._run(group, index))
                self._tasks[task] = group, index
                if sample is None:
                    self._unseated.add((group.launch_index, index))
                task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Abort everything and wait until it has ended. The groups stay as they were when this was called."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        group, index = self._tasks.pop(task)
        self._unseated.discard((group.launch_index, index))
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = self.error or error
            self._on_change(group)

    async def _run(self, group: SampleGroup, index: int) -> None:
        try:
            sample = group.samples[index]
            if sample is None:
                sample = await self._generate_with_retries(group, index)
                if self._stopped:
                    return
                group.samples[index] = sample
                self._on_change(group)
            score = await self._score_with_retries(group, index, sample)
        except RolloutFault as fault:
            if not self._stopped:
                self._drop(group, f"{type(fault).__name__}: {fault}")
            return
        if self._stopped:
            return
        sample.reward, sample.solved, sample.reward_parts = float(score.reward), bool(score.solved), dict(score.parts)
        sample.reward_details = dict(score.details)
        sample.scored_seconds = self._clock()
        if group.complete:
            group.completed_seconds = sample.scored_seconds
        self._on_change(group)

    def _drop(self, group: SampleGroup, fault: str) -> None:
        """A group with a sample that cannot be had is dropped whole: a part of a group is another estimate."""
        if group.outcome is Outcome.FAULTED:
            return
        group.outcome, group.fault, group.completed_seconds = Outcome.FAULTED, fault, self._clock()
        current = asyncio.current_task()
        for task, (other, _) in self._tasks.items():
            if other is group and task is not current:
                task.cancel()
        self._on_change(group)

    async def _generate_with_retries(self, group: SampleGroup, index: int) -> Sample:
        retry = self._settings.retry
        for attempt in range(1, retry.max_generation_attempts + 1):
            started = self._clock()
            try:
                generation, engine, started = await self._generate(group, index, attempt)
            except RequestRejected:
                raise
            except RolloutFault as fault:
                if attempt == retry.max_generation_attempts:
                    raise
                if not isinstance(fault, EngineDied):
                    await asyncio.sleep(retry.pause_seconds(attempt))
                continue
            return Sample(
                tokens=generation.tokens,
                rollout_logprobs=generation.logprobs,
                finish_reason=generation.finish_reason,
                policy_version=generation.policy_version,
                engine=engine,
                attempts=attempt,
                started_seconds=started,
                generated_seconds=self._clock(),
            )
        raise AssertionError

    async def _generate(self, group: SampleGroup, index: int, attempt: int) -> tuple[Generation, str, float]:
        """One attempt: (generation, engine, its start)."""
        place = (group.launch_index, index)
        self._unseated.add(place)
        seat = await self._fleet.acquire(place)
        self._unseated.discard(place)
        engine, started, finished = seat.berth.engine, self._clock(), False
        try:
            request = engine.generate(self._request(group, index, attempt))
            generation = await self._fleet.run(seat, request, self._settings.generation.max_new_tokens)
            check_generation(generation)
            finished = True
            self._fleet.succeeded(seat, len(generation.tokens), self._clock() - started)
        except EngineDied:
            self._fleet.died(seat)
            raise
        finally:
            self._end_generation(seat, group, index, started, finished)
        return generation, engine.name, started

    def _end_generation(self, seat: Seat, group: SampleGroup, index: int, started: float, finished: bool) -> None:
        name = seat.berth.engine.name
        self.spans.append(Span("generation", name, group.launch_index, index, started, self._clock(), finished))
        self._fleet.release(seat)

    def _request(self, group: SampleGroup, index: int, attempt: int) -> GenerationRequest:
        return GenerationRequest(
            id=request_id(group.launch_index, index, attempt),
            prompt=group.prompt,
            settings=self._settings.generation,
            seed=request_seed(self._settings.seed, group.launch_index, index, attempt),
        )

    async def _score_with_retries(self, group: SampleGroup, index: int, sample: Sample) -> Score:
        retry = self._settings.retry
        self.pending_rewards += 1
        try:
            await self.may_score.wait()
            started, waiting = self._clock(), self.pending_rewards
            for attempt in range(1, retry.max_reward_attempts + 1):
                try:
                    score = await self._score(group, index, sample)
                    if self._reward_cost is not None and attempt == 1:
                        self._reward_cost.note(waiting, self._clock() - started)
                    return score
                except RolloutFault:
                    if attempt == retry.max_reward_attempts:
                        raise
                await asyncio.sleep(retry.pause_seconds(attempt))
            raise AssertionError
        finally:
            self.pending_rewards -= 1

    async def _score(self, group: SampleGroup, index: int, sample: Sample) -> Score:
        # The oldest launch first: a step ends when the groups up to its last selected one are scored.
        async with self._reward_slots.slot((group.launch_index, index)):
            started, finished = self._clock(), False
            try:
                async with asyncio.timeout(self._settings.retry.reward_timeout_seconds):
                    score = await self._reward.score(group.prompt, sample)
                if not math.isfinite(score.reward):
                    raise ScoringFailed(f"the reward is {score.reward}, no finite number")
                finished = True
                return score
            except TimeoutError as error:
                raise ScoringFailed("no reward in time") from error
            finally:
                launch = group.launch_index
                self.spans.append(Span("reward", "reward", launch, index, started, self._clock(), finished))


def request_id(launch: int, sample: int, attempt: int) -> str:
    return f"{launch}/{sample}/{attempt}"


def request_seed(run_seed: int, launch: int, sample: int, attempt: int) -> int:
    """The seed of an attempt at a sample: a function of its place alone, so a resumed run asks for the same."""
    return random.Random(f"request {run_seed} {request_id(launch, sample, attempt)}").getrandbits(31)


def check_generation(generation: Generation) -> None:
    """Raise GenerationFailed for what cannot be trained on."""
    if not generation.tokens or len(generation.tokens) != len(generation.logprobs):
        raise GenerationFailed(f"{len(generation.tokens)} tokens with {len(generation.logprobs)} log-probabilities")
