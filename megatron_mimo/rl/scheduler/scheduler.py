"""The rollout of a step: launch, watch, stop, settle. See policy.py for the report's engine and its baselines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import RolloutConfig
from megatron_mimo.rl.engine_protocol import RewardFunction, RolloutEngine
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Outcome, SampleGroup
from megatron_mimo.rl.scheduler.fleet import EngineFleet
from megatron_mimo.rl.scheduler.group_runner import Clock, GroupRunner, Span
from megatron_mimo.rl.scheduler.health import EngineRecord, LoadCost
from megatron_mimo.rl.scheduler.ledger import StepLedger, SurvivalEstimate, group_from_json, group_to_json
from megatron_mimo.rl.scheduler.policy import SEAMLESS, SchedulingPolicy


class BatchNotFilled(UserError):
    """Too many prompts are all right or all wrong."""


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """What a step brought. Every group that was launched is in exactly one place of `groups`' outcomes."""

    selected: list[SampleGroup]
    """The batch, num_groups groups."""
    groups: list[SampleGroup]
    """All of the step in launch order, the selected included."""
    start_seconds: float
    end_seconds: float
    survival: float
    """The running estimate at the end."""
    spans: list[Span] = field(default_factory=list)
    """The timeline, from the last restore on."""
    engines: list[EngineRecord] = field(default_factory=list)
    """How the engines are doing, since the start of the run."""

    @property
    def outcomes(self) -> Counter[Outcome]:
        return Counter(group.outcome for group in self.groups if group.outcome is not None)

    @property
    def waste_ratio(self) -> float:
        """Usable samples that were not used, over the batch (the report's sample waste)."""
        return self.outcomes[Outcome.SURPLUS] / len(self.selected)

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds


class RolloutScheduler:
    """`batch = await scheduler.collect()`, step by step.

    `state_dict()` may be taken at any moment, also from another task during `collect`; a scheduler that loads it goes
    on with the same launches, prompts and finished samples. A `collect` that was cancelled or raised keeps what it has:
    the next call continues. Not guaranteed: that samples in flight at that moment are the same again on a real engine.
    """

    def __init__(
        self,
        engines: Sequence[RolloutEngine],
        reward: RewardFunction,
        prompts: PromptSampler,
        settings: RolloutConfig,
        policy: SchedulingPolicy = SEAMLESS,
        clock: Clock | None = None,
    ) -> None:
        """clock: seconds; by default that of the running event loop."""
        self._fleet = EngineFleet(engines, settings.retry)
        self._reward, self._prompts, self._settings, self._policy = reward, prompts, settings, policy
        self._clock: Clock = clock or (lambda: asyncio.get_running_loop().time())
        self._survival = SurvivalEstimate(settings.survival_prior, settings.survival_weight_groups)
        self._reward_cost = LoadCost()
        self._next_launch = 0
        self._ledger: StepLedger | None = None
        self._running = False
        self.totals: Counter[str] = Counter()
        """Groups by outcome since the start of the run; with the active ones they add up to the launches."""

    @property
    def num_launched(self) -> int:
        return self._next_launch

    @property
    def load_cost(self) -> float:
        """How much of their time further groups take from the others, in the engines or in the judge: 0 to 1."""
        return 1 - (1 - self._fleet.load_cost) * (1 - self._reward_cost.share)

    @property
    def num_open(self) -> int:
        """Groups of the present step, whose outcome is still open."""
        return len(self._ledger.groups) if self._ledger is not None else 0

    def set_max_new_tokens(self, max_new_tokens: int) -> None:
        """The response budget from the next `collect` on."""
        self._settings = self._settings.with_max_new_tokens(max_new_tokens)

    async def collect(self) -> RolloutBatch:
        """Fill one batch. Raises BatchNotFilled, NoEngines, or what a broken engine or reward raised."""
        if self._running:
            raise RuntimeError("collect is running already")
        self._running = True
        step = self._ledger = self._ledger or StepLedger(self._settings.num_groups, self._policy.keeps)
        changed, started = asyncio.Event(), self._clock()
        runner = self._runner(step, changed.set)
        try:
            chosen = await self._fill(step, runner, changed)
            # Between here and the return nothing may wait: a cancelled step is not settled, a settled one is returned.
            await runner.stop()
            return self._settle(step, chosen, runner.spans, started)
        finally:
            try:
                await runner.stop()
            finally:
                self._running = False

    def _runner(self, step: StepLedger, wake: Callable[[], None]) -> GroupRunner:
        def on_change(group: SampleGroup) -> None:
            step.note(group)
            wake()

        concurrency = self._policy.reward_concurrency
        return GroupRunner(
            self._fleet, self._reward, self._settings, on_change, self._clock, concurrency, self._reward_cost
        )

    async def _fill(self, step: StepLedger, runner: GroupRunner, changed: asyncio.Event) -> list[SampleGroup]:
        chosen = self._policy.choose(step)
        if chosen is None:
            for group in step.groups:
                if group.outcome is None:
                    runner.start(group)
        while chosen is None:
            self._launch(step, runner)
            self._open_or_close_rewards(step, runner)
            await changed.wait()
            changed.clear()
            if runner.error is not None:
                raise runner.error
            chosen = self._policy.choose(step)
        return chosen

    def _launch(self, step: StepLedger, runner: GroupRunner) -> None:
        """Start what the policy asks for, as far as seats and waiting rewards allow."""
        number = self._policy.num_to_launch(step, self._survival, self.load_cost)
        if self._policy.launch == "continuous" and number:
            # A launch that would only wait for a seat is better decided when the seat is free.
            free = self._fleet.num_free - runner.num_unseated
            seats = max(-(-free // self._settings.samples_per_prompt), 0 if step.num_active else 1)
            number = min(number, seats) if runner.pending_rewards <= self._settings.max_pending_rewards else 0
        if number > 0 and len(step.groups) >= self._settings.launch_limit:
            if step.num_active:
                return
            raise BatchNotFilled(self._not_filled(step))
        for _ in range(min(number, self._settings.launch_limit - len(step.groups))):
            group = self._new_group()
            step.add(group)
            runner.start(group)

    def _new_group(self) -> SampleGroup:
        prompt, origin = self._prompts.draw()
        group = SampleGroup(
            prompt=prompt,
            launch_index=self._next_launch,
            origin=origin,
            samples=[None] * self._settings.samples_per_prompt,
            launched_seconds=self._clock(),
        )
        self._next_launch += 1
        return group

    def _open_or_close_rewards(self, step: StepLedger, runner: GroupRunner) -> None:
        if self._policy.rewards == "on_arrival" or not step.is_generating:
            runner.may_score.set()
        else:
            runner.may_score.clear()

    def _settle(self, step: StepLedger, chosen: list[SampleGroup], spans: list[Span], started: float) -> RolloutBatch:
        step.settle(chosen)
        for group in step.groups:
            assert group.outcome is not None
            self._prompts.settle(group)
            self.totals[group.outcome] += 1
        self._survival.end_step(step.num_usable, step.num_complete)
        self._ledger = None
        return RolloutBatch(
            selected=chosen,
            groups=step.groups,
            start_seconds=started,
            end_seconds=self._clock(),
            survival=self._survival.prior,
            spans=spans,
            engines=self._fleet.records(),
        )

    def _not_filled(self, step: StepLedger) -> str:
        solved = sum(group.complete and group.all_solved for group in step.groups)
        faulted = [group.fault for group in step.groups if group.outcome is Outcome.FAULTED]
        return (
            f"{len(step.groups)} prompts gave {step.num_usable} of {step.num_groups} groups with different rewards "
            f"({solved} solved by all samples, {len(faulted)} dropped{': ' + faulted[0] if faulted else ''}): choose "
            "problems nearer to what the model can do, more samples_per_prompt, or a higher max_launched_groups"
        )

    def state_dict(self) -> dict[str, Any]:
        """JSON values: launches, prompts, estimate, totals, and the open step with its finished samples."""
        return {
            "policy": self._policy.name,
            "next_launch": self._next_launch,
            "survival": self._survival.prior,
            "totals": {str(outcome): number for outcome, number in self.totals.items()},
            "prompts": self._prompts.state_dict(),
            "open_groups": None if self._ledger is None else [group_to_json(group) for group in self._ledger.groups],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises UserError where it does not fit these settings."""
        if self._running:
            raise RuntimeError("collect is running")
        if saved["policy"] != self._policy.name:
            raise UserError(
                f"the checkpoint was made by policy {saved['policy']!r}, this run has {self._policy.name!r}"
            )
        self._prompts.load_state_dict(saved["prompts"])
        self._next_launch, self._survival.prior = saved["next_launch"], saved["survival"]
        self.totals = Counter({Outcome(name): number for name, number in saved["totals"].items()})
        self._ledger = None
        if saved["open_groups"] is not None:
            self._ledger = StepLedger(self._settings.num_groups, self._policy.keeps)
            for entry in saved["open_groups"]:
                if len(entry["samples"]) != self._settings.samples_per_prompt:
                    raise UserError("the checkpoint has another samples_per_prompt: finish its step with that number")
                self._ledger.add(group_from_json(entry, self._prompts.prompt(entry["prompt"])))
