"""The RL iteration (report section 3.3): roll out, update, send the weights; validation and checkpoints in between."""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from megatron_mimo.config import RLConfig
from megatron_mimo.config.rl import RolloutConfig
from megatron_mimo.platform.files import write_json
from megatron_mimo.rl.draft_counts import drafts_between, read_counters
from megatron_mimo.rl.engine_protocol import RewardFunction, UpdatableEngine
from megatron_mimo.rl.policy_weights import PolicyWeights
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.rollout_log import RolloutLog
from megatron_mimo.rl.sample import Prompt, SampleGroup
from megatron_mimo.rl.scheduler.scheduler import RolloutScheduler
from megatron_mimo.rl.step_record import Timings, step_record
from megatron_mimo.rl.trace import Trace
from megatron_mimo.rl.validate import validate

FINISHED, PREEMPTED, INTERRUPTED = "finished", "pre-empted", "interrupted"
OPEN_ROLLOUT = "open_rollout.json"
Result = TypeVar("Result")


class Trainer(Protocol):
    """rl/trainer_actors.TrainerGroup, or a stand-in."""

    async def train(self, groups: Sequence[SampleGroup]) -> dict[str, float]:
        """All updates of a step; returns metrics."""
        ...

    async def write_weights(self, folder: Path) -> None: ...

    async def save(self, step: int, driver_state: dict[str, Any]) -> None: ...


class Interrupted(Exception):
    """The scheduler of the cluster wants the machine: stop where it loses nothing."""


class RLLoop:
    """`await loop.fit()` on parts that are started; `stop` ends it in order at the next opportunity."""

    def __init__(
        self,
        config: RLConfig,
        *,
        trainer: Trainer,
        engines: Sequence[UpdatableEngine],
        reward: RewardFunction,
        prompts: PromptSampler,
        validation_prompts: Sequence[Prompt],
        scheduler: RolloutScheduler,
        weights: PolicyWeights,
        trace: Trace,
        step: int = 0,
        rollouts: RolloutLog | None = None,
    ) -> None:
        """step: updates of the policy so far; the engines hold these weights. rollouts: where responses are kept."""
        self._rollouts = rollouts
        self.config, self.step = config, step
        self._trainer, self._engines, self._reward, self._prompts = trainer, engines, reward, prompts
        self._validation_prompts, self._scheduler, self._weights = validation_prompts, scheduler, weights
        self._trace = trace
        self.stop = asyncio.Event()

    async def fit(self) -> str:
        """Train to config.num_steps. Returns FINISHED, or PREEMPTED after `stop`, with everything saved."""
        saved = self.step
        try:
            if self.step == 0:
                await self._unless_stopped(self._validate())
            while self.step < self.config.num_steps:
                await self._step()
                if self._is_due(self.config.validation_interval_steps):
                    await self._unless_stopped(self._validate())
                if self._is_due(self.config.checkpoint.every_steps):
                    saved = await self._save()
        except Interrupted:
            if saved != self.step:
                await self._save()
            self._save_open_rollout()
            return PREEMPTED
        return FINISHED

    async def _step(self) -> None:
        """One batch: rollout, updates, weights."""
        max_new_tokens = self.config.max_new_tokens(self.step)
        self._scheduler.set_max_new_tokens(max_new_tokens)
        counts_before = await read_counters(self._engines)
        batch = await self._unless_stopped(self._scheduler.collect())
        drafts = drafts_between(counts_before, await read_counters(self._engines))
        timings, clock = Timings(), time.perf_counter
        started = clock()
        metrics = await self._trainer.train(batch.selected)
        timings.train = clock() - started
        self.step += 1
        started = clock()
        await self._weights.send(self._trainer, self._engines, self.step)
        timings.weights = clock() - started
        record = step_record(
            self.step,
            batch,
            self._prompts,
            timings,
            metrics,
            num_engines=len(self._engines),
            max_new_tokens=max_new_tokens,
            verifier=getattr(self._reward, "counts", None),
            drafts=drafts,
        )
        if self._rollouts is not None:
            self._rollouts.write(self.step, batch)
        self._trace.on_step(record, batch)

    async def _validate(self) -> None:
        if self._validation_prompts:
            settings = self._validation_settings()
            record = await validate(self.step, self._engines, self._reward, self._validation_prompts, settings)
            self._trace.on_validation(record)

    def _validation_settings(self) -> RolloutConfig:
        rollout = self.config.rollout.with_max_new_tokens(self.config.max_new_tokens(self.step))
        return replace(rollout, samples_per_prompt=self.config.validation_samples)

    def _is_due(self, interval_steps: int) -> bool:
        return self.step % interval_steps == 0 or self.step == self.config.num_steps

    async def _save(self) -> int:
        await self._trainer.save(self.step, {"scheduler": self._scheduler.state_dict()})
        self._trace.say(f"checkpoint after step {self.step}")
        return self.step

    def _save_open_rollout(self) -> None:
        """The finished samples of a step that was cut off; they are worth hours at full size."""
        content = {"step": self.step, "scheduler": self._scheduler.state_dict()}
        write_json(Path(self.config.output_dir) / OPEN_ROLLOUT, content)

    async def _unless_stopped(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`; raises Interrupted when `stop` is set first, `work` cancelled."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise Interrupted
        return task.result()


def restored_scheduler_state(output_dir: Path, step: int, driver_state: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's scheduler state, or that of the step that was cut off after it and knows more."""
    path = output_dir / OPEN_ROLLOUT
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["step"] == step:
            return content["scheduler"]
    return driver_state["scheduler"]
