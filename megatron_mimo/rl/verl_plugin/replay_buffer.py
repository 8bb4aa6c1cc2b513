"""The Seamless Rollout Engine's decisions in verl: what to launch, when to stop, which groups to train on.

verl's agent loops generate and score, and write into TransferQueue; this replay buffer watches it and lets the same
policy, ledger and estimate decide as in rl/scheduler.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.rl.sample import Outcome, Sample, SampleGroup
from megatron_mimo.rl.scheduler.ledger import StepLedger, SurvivalEstimate
from megatron_mimo.rl.scheduler.policy import SEAMLESS, SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import BatchNotFilled
from megatron_mimo.rl.verl_plugin.prompt_feed import Draw, EasyPoolSampler

TRAIN = "train"
NEVER_STALE = 1 << 30
"""Steps that a response may be old: nothing is in flight between steps, and not every version of verl takes None."""


@dataclass(frozen=True, kw_only=True)
class SeamlessConfig:
    """`trainer.v1.sampler.sampler_kwargs`."""

    easy_pool_alpha: float = 0.1
    max_active_groups: int = 0
    """Prompts in flight; 0: as many as the policy asks for, which wait inside the engines."""
    max_launched_groups: int = 0
    """Of a step before it gives up; 0: 20 times the batch."""
    survival_prior: float = 0.5
    survival_weight_groups: int = 64
    poll_interval_seconds: float = 2.0

    def __post_init__(self) -> None:
        place = "sampler_kwargs"
        require_at_least(0, place, max_active_groups=self.max_active_groups, easy_pool_alpha=self.easy_pool_alpha)
        require_at_least(0, place, max_launched_groups=self.max_launched_groups)
        require_at_least(1, place, survival_weight_groups=self.survival_weight_groups)
        if not 0 < self.survival_prior <= 1:
            raise ConfigError(f"{place}.survival_prior", self.survival_prior, "must be above 0 and at most 1")
        if self.poll_interval_seconds <= 0:
            raise ConfigError(f"{place}.poll_interval_seconds", self.poll_interval_seconds, "must be above 0")


class SeamlessReplayBuffer(ReplayBuffer):
    """`sample` for the training partition launches, waits and chooses; then `drain` once the engines have aborted."""

    def __init__(
        self,
        settings: SeamlessConfig,
        launch: Callable[[int], object],
        samples_per_prompt: int,
        policy: SchedulingPolicy = SEAMLESS,
    ) -> None:
        """launch: submits this many prompts; it must call `add` for them before it returns."""
        super().__init__(
            trainer_mode="sync",
            trainer_config={},  # pyright: ignore[reportArgumentType]
            max_off_policy_threshold=NEVER_STALE,
            max_off_policy_strategy="drop",
            sampler_kwargs={},  # pyright: ignore[reportArgumentType]
            poll_interval=settings.poll_interval_seconds,
        )
        self._settings, self._submit, self._policy = settings, launch, policy
        self._samples_per_prompt = samples_per_prompt
        self._survival = SurvivalEstimate(settings.survival_prior, settings.survival_weight_groups)
        self._feed: EasyPoolSampler | None = None
        self._step: StepLedger | None = None
        self._groups: dict[str, SampleGroup] = {}
        self._num_launched = 0

    def read_from(self, feed: EasyPoolSampler) -> None:
        """Where prompts come from and are settled."""
        self._feed = feed

    def add(self, uids: list[str], draws: list[Draw]) -> None:
        """Prompts that are being submitted, in launch order."""
        assert self._step is not None
        for uid, (prompt, origin) in zip(uids, draws, strict=True):
            group = SampleGroup(
                prompt=prompt,
                launch_index=self._num_launched,
                origin=origin,
                samples=[None] * self._samples_per_prompt,
            )
            self._num_launched += 1
            self._groups[uid] = group
            self._step.add(group)

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        """The step's batch and metrics. Groups that were not chosen stay until `drain`. Raises BatchNotFilled."""
        if partition_id != TRAIN:
            return super().sample(global_steps, partition_id, batch_size)
        step, self._groups = StepLedger(batch_size, self._policy.keeps), {}
        self._step = step
        assert self._feed is not None
        if self._feed.survival is not None:
            self._survival.prior = self._feed.survival
        chosen = self._wait_for_batch(step)
        metrics = self._settle(step, chosen)
        launches = {group.launch_index for group in chosen}
        uids = [uid for uid, group in self._groups.items() if group.launch_index in launches]
        return self._materialize_batch(TRAIN, uids, dict(self.partitions[TRAIN])), metrics

    def drain(self) -> None:
        """After the engines have aborted: wait until nothing is in flight, then clear what was not chosen."""
        last_debug_time = time.time()
        while True:
            self._sync_metadata_from_transfer_queue()
            if not (self.pending_keys[TRAIN] | self.running_keys[TRAIN]):
                break
            last_debug_time = self._wait_for_next_poll(TRAIN, last_debug_time)
        self._clear_groups(TRAIN, self.finished_keys[TRAIN] | self.failure_keys[TRAIN])

    def _wait_for_batch(self, step: StepLedger) -> list[SampleGroup]:
        last_debug_time = time.time()
        while True:
            self._sync_metadata_from_transfer_queue()
            self._note_ended(step)
            chosen = self._policy.choose(step)
            if chosen is not None:
                return chosen
            number = self._num_to_launch(step)
            if number:
                self._submit(number)
            else:
                last_debug_time = self._wait_for_next_poll(TRAIN, last_debug_time)

    def _num_to_launch(self, step: StepLedger) -> int:
        number = self._policy.num_to_launch(step, self._survival)
        if self._settings.max_active_groups:
            number = min(number, max(0, self._settings.max_active_groups - step.num_active))
        left = (self._settings.max_launched_groups or 20 * step.num_groups) - len(step.groups)
        if number and left <= 0 and not step.num_active:
            raise BatchNotFilled(
                f"{len(step.groups)} prompts gave {step.num_usable} of {step.num_groups} groups with different "
                "rewards: choose problems nearer to what the model can do, or a larger rollout.n"
            )
        return max(0, min(number, left))

    def _note_ended(self, step: StepLedger) -> None:
        """Move what TransferQueue knows of ended groups into the ledger."""
        active = {uid for uid, group in self._groups.items() if group.outcome is None and not group.complete}
        finished = active & self.finished_keys[TRAIN]
        samples = self._read_samples(finished)
        for uid in finished | (active & self.failure_keys[TRAIN]):
            group = self._groups[uid]
            if len(samples.get(uid, ())) == len(group.samples):
                group.samples = list(samples[uid])
            else:
                # A part of a group is another estimate: dropped whole.
                group.outcome, group.fault = Outcome.FAULTED, "a session failed or gave no response"
            step.note(group)

    def _read_samples(self, uids: set[str]) -> dict[str, list[Sample]]:
        """Rewards and accuracies of finished groups. Of a session with several trajectories the last one counts."""
        sessions: dict[tuple[str, str], str] = {}
        for key in sorted(self.partitions[TRAIN], key=lambda key: (key.split("_")[0], int(key.split("_")[2]))):
            uid, session, _ = key.split("_")
            if uid in uids:
                sessions[uid, session] = key
        if not sessions:
            return {}
        fields = ["rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=list(sessions.values()), partition_id=TRAIN, select_fields=fields)
        samples: dict[str, list[Sample]] = {}
        for (uid, _), scores, stored in zip(sessions, data["rm_scores"], data["extra_fields"], strict=True):
            # TensorDict hands plain values out bare or wrapped, by how many there are.
            extra: Any = getattr(stored, "data", stored)
            accuracy = extra["reward_extra_info"]["acc"]
            sample = Sample(tokens=(), rollout_logprobs=(), reward=float(scores.sum()), solved=float(accuracy) >= 1)
            samples.setdefault(uid, []).append(sample)
        return samples

    def _settle(self, step: StepLedger, chosen: list[SampleGroup]) -> dict[str, float]:
        assert self._feed is not None
        step.settle(chosen)
        for group in step.groups:
            self._feed.settle(group)
        self._survival.end_step(step.num_usable, step.num_complete)
        self._feed.survival = self._survival.prior
        outcomes = {outcome: sum(group.outcome is outcome for group in step.groups) for outcome in Outcome}
        prefix, counts = "training/seamless", self._feed.prompts.counts
        return {
            **{f"{prefix}/{outcome}_groups": float(number) for outcome, number in outcomes.items()},
            f"{prefix}/waste_ratio": outcomes[Outcome.SURPLUS] / len(chosen),
            f"{prefix}/survival": self._survival.prior,
            f"{prefix}/easy_pool_size": float(self._feed.prompts.pool_size),
            f"{prefix}/easy_draws_ratio": counts.easy / max(1, counts.with_pool),
        }
