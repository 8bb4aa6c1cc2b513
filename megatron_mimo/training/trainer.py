"""The pre-training loop, which reads like the recipe: stages, steps, evaluation, checkpoints, guards."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from megatron_mimo.config import TrainingConfig
from megatron_mimo.model.build import build_model, set_rotary_base
from megatron_mimo.model.initialize import initialize_weights, is_low_rank
from megatron_mimo.model.lora import add_lora
from megatron_mimo.model.product_attention import MAX_PRODUCT_LENGTH
from megatron_mimo.model.spec import choose_backend
from megatron_mimo.platform.environment import package_versions
from megatron_mimo.platform.formats import format_seconds
from megatron_mimo.platform.garbage import SharedCollection
from megatron_mimo.training.callbacks import Callback
from megatron_mimo.training.checkpoint import Checkpointer, latest_checkpoint
from megatron_mimo.training.checkpoint_files import CHECKPOINTS
from megatron_mimo.training.checkpoint_record import CheckpointRecord, read_record, source_records, stage_records
from megatron_mimo.training.draft_steps import step_weights
from megatron_mimo.training.evaluation import Evaluator
from megatron_mimo.training.feed import StageFeed, micro_batches_of_step
from megatron_mimo.training.guards import LossGuard, TrainingStopped
from megatron_mimo.training.measure import StepTimer, step_metrics
from megatron_mimo.training.optimizer import (
    apply_update,
    build_optimizer,
    distributed_parts,
    gradient_norm,
    set_learning_rate,
    wrap_data_parallel,
)
from megatron_mimo.training.preemption import TIME_LIMIT, PreemptionHandler
from megatron_mimo.training.profile import step_profiler
from megatron_mimo.training.resume import check_order, differences, settle_progress, settle_stages
from megatron_mimo.training.run_plan import run_plan
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.start import context_notes, start_from, start_notes, start_record, with_lineage
from megatron_mimo.training.state import Progress, advance, is_finished
from megatron_mimo.training.step import LossReport, TrainStep
from megatron_mimo.training.straggler import StragglerMonitor, straggler_table
from megatron_mimo.training.training_data import TrainingData, check_vocabulary
from megatron_mimo.training.user_buffers import prepare_user_buffers
from megatron_mimo.training.watchdog import Watchdog

TORCH_ATTENTION = f"scaled_dot_product_attention (torch); on CPU: products to {MAX_PRODUCT_LENGTH} keys"
FINISHED, PREEMPTED, INTERRUPTED = "finished", "pre-empted", "interrupted"
OTHER_LAYOUT = "to continue in the layout of the next stage"


class Trainer:
    """One run of a TrainingConfig on the process groups that exist; `fit` returns why it ended."""

    def __init__(self, config: TrainingConfig, data: TrainingData, callbacks: Callback) -> None:
        self.config = config
        self.data = data
        self.callbacks = callbacks
        self.guard = LossGuard(config.guard)
        self.stragglers = StragglerMonitor(config.logging.straggler_every_steps)
        check_vocabulary(config.model, data)
        self.backend, self.backend_reason = choose_backend(config.precision)
        first = config.stages[0]
        self._start_mtp_layers = 0
        chunks = build_model(config.model, config.parallel, config.precision, first.seq_length, first.rotary_base)
        initialize_weights(chunks, config.model, config.seed)
        folder = Path(config.output_dir) / CHECKPOINTS
        self._latest, origin = latest_checkpoint(folder, config.checkpoint), None
        if config.start:
            own = read_record(self._latest) if self._latest else None
            origin = own or start_record(config.start)
            hash_files = config.checkpoint.verify_on_load == "sha256"
            self._start_mtp_layers = start_from(chunks, config.model, config.start, hash_files, own)
            fine_tunes = data.is_chat or config.lora is not None
            notes = start_notes(own, config.start) if own else context_notes(first, config.start, origin, fine_tunes)
            if notes and dist.get_rank() == 0:
                print(*notes, sep="\n", flush=True)
        if config.lora:
            add_lora(chunks, config.lora)
            initialize_weights(chunks, config.model, config.seed, wanted=is_low_rank)
        self.chunks = wrap_data_parallel(chunks, config.parallel.overlap_communication, config.precision)
        self.schedule = Schedule(config.stages, config.mtp_loss)
        self.optimizer = build_optimizer(self.chunks, config.optimizer, config.precision)
        self.step = TrainStep(self.chunks, 1 + config.model.mtp_depths, len(data.sources))
        if config.mtp_step_decay != 1:
            self.step.mtp_depth_weights = step_weights(config.model.mtp_depths, config.mtp_step_decay)
        record = self._record(origin)
        self.checkpoints = Checkpointer(folder, config.checkpoint, self.chunks, self.optimizer, record)
        self.evaluator = Evaluator(config, data, self.backend, self.step)
        self.progress = Progress()
        self.saved_step = 0
        """Steps of the newest checkpoint."""

    def fit(self) -> str:
        """Resume from the newest good checkpoint, or start; train to the end.

        Returns FINISHED; or, saved on request after a step, PREEMPTED (a scheduler's) or INTERRUPTED (a person's); or,
        saved where `config.parallel` is not the layout of the present stage, OTHER_LAYOUT.

        Raises TrainingStopped when a guard gives up.
        """
        stacks = Path(self.config.output_dir) / "stacks"
        with ExitStack() as stack:
            guard = self.config.guard
            watchdog = stack.enter_context(
                Watchdog(guard.hang_timeout_seconds, stacks, dist.get_rank(), guard.startup_timeout_seconds)
            )
            if self._latest is not None:
                self._restore(self._latest)
            self._check_what_is_left()
            plan = run_plan(self.config.model, self.config.stages, self.config.max_steps)
            self.callbacks.on_start(plan, self.progress.step, self.progress.consumed_tokens)
            wanted, folder = self.config.logging.profile_steps, Path(self.config.output_dir) / "profile"
            profiler = stack.enter_context(step_profiler(wanted, folder, self.progress.step))
            # From here on there is something to save; before, a signal ends the program (platform/signals.py).
            preemption = stack.enter_context(PreemptionHandler(self.config.stop_after_seconds))
            garbage = stack.enter_context(SharedCollection(self.config.collect_garbage_every_steps))
            reason = FINISHED
            while not self._is_done():
                if self.config.layout(self.config.stages[self.progress.stage]) != self.config.parallel:
                    reason = OTHER_LAYOUT
                    break
                if self._train_stage(preemption, watchdog, profiler, garbage) == PREEMPTED:
                    reason = INTERRUPTED if preemption.by_hand else PREEMPTED
                    if preemption.agreed == TIME_LIMIT and dist.get_rank() == 0:
                        limit = self.config.stop_after_seconds or 0
                        print(f"{format_seconds(limit)} (stop_after_seconds) are over: saving", flush=True)
                    break
            self._finish(reason, watchdog)
        return reason

    def _train_stage(
        self, preemption: PreemptionHandler, watchdog: Watchdog, profiler: Any, garbage: SharedCollection
    ) -> str | None:
        """Steps until the stage ends, the run ends, a rollback moves elsewhere, or the scheduler wants the node."""
        stage_index = self.progress.stage
        stage = self.config.stages[stage_index]
        models: list[Any] = [chunk.module for chunk in self.chunks]
        set_rotary_base(models, stage.rotary_base)
        watchdog.starting()
        prepare_user_buffers(self.config, stage)
        feed = StageFeed(self.config, self.data, self.schedule, self.progress, self.backend)
        while self.progress.stage == stage_index and not self._is_done():
            before = self.progress
            verdict = self._train_step(feed)
            watchdog.beat()
            profiler.step()
            if verdict == "rollback":
                watchdog.starting()
                self._roll_back()
                return None
            self._after_step(before)
            garbage.step_done()
            watchdog.beat()
            if preemption.agreed_to_stop():
                return PREEMPTED
        return None

    def _train_step(self, feed: StageFeed) -> str:
        """One global batch: gradients, verdict, update; the position moves on unless the guard rolls back."""
        before, timer = self.progress, StepTimer()
        stage = self.config.stages[before.stage]
        batch_size = self.schedule.global_batch_size(before.consumed_tokens)
        self.step.mtp_loss_scaling_factor = self.schedule.mtp_loss_scaling_factor(before.consumed_tokens)
        set_learning_rate(self.optimizer, self.schedule.learning_rate(before.consumed_tokens))
        self.optimizer.zero_grad()
        count = micro_batches_of_step(stage, batch_size)
        report = self.step.backward(feed.batches(timer), count, feed.model_shape)
        grad_norm = gradient_norm(self.optimizer)
        verdict = self.guard.judge(report.by_depth[0], grad_norm)
        if verdict == "ok":
            apply_update(self.optimizer, grad_norm, self.config.optimizer.clip_grad)
        elif dist.get_rank() == 0:
            print(f"step {before.step + 1}: {verdict}: {self.guard.reason}", flush=True)
        if verdict == "stop":
            raise TrainingStopped(f"stopped at step {before.step + 1}: {self.guard.reason}")
        if verdict != "rollback":
            self.progress = advance(before, self.schedule)
            self._report(report, before, grad_norm, timer, skipped=verdict == "skip")
        return verdict

    def _report(self, report: LossReport, before: Progress, grad_norm: float, timer: StepTimer, skipped: bool) -> None:
        metrics = step_metrics(
            self.config, self.schedule, self.data.sources, before, self.progress, report, grad_norm, timer
        )
        metrics.skipped = skipped
        self.callbacks.on_step(metrics)
        found = self.stragglers.record(timer.seconds, timer.data_seconds)
        if found and dist.get_rank() == 0:
            print(straggler_table(found), flush=True)

    def _after_step(self, before: Progress) -> None:
        """What is due between two steps. Saved first: whatever an evaluation dies of, the weights are there."""
        stage_ended = self.progress.stage != before.stage or is_finished(self.progress, self.schedule)
        if self.progress.stage != before.stage:
            self.guard.start_stage()
        self.checkpoints.poll()
        saved_at_end = self.config.checkpoint.save_at_end and self._is_done()
        if saved_at_end or self.progress.step % self.config.checkpoint.every_steps == 0:
            self._save()
        if self.evaluator.is_due(before, self.progress, stage_ended):
            metrics = self.evaluator.evaluate(self.progress, self.config.stages[before.stage])
            if metrics is not None:
                self.callbacks.on_evaluation(metrics)

    def _save(self) -> None:
        self.saved_step = self.progress.step
        self.callbacks.on_checkpoint(self.checkpoints.save(self.progress, self.guard.state_dict()))

    def save_weights(self, folder: Path) -> None:
        """Write the present weights alone to `folder`, for an export. Every rank calls it."""
        self.checkpoints.save_weights(folder, self.progress)

    def _roll_back(self) -> None:
        """Return to the newest good checkpoint, or to the beginning where there is none yet."""
        self.checkpoints.finish_pending()
        latest = self.checkpoints.latest()
        if latest is None:
            raise TrainingStopped(f"no checkpoint to roll back to: {self.guard.reason}")
        saved = self.checkpoints.load(latest)
        self.progress = settle_progress(saved.progress, self.schedule.stage_index(saved.progress.consumed_tokens))
        self.guard.rolled_back(saved.guard)
        self.callbacks.on_rollback(self.progress.step, self.progress.consumed_tokens)

    def _restore(self, path: Path) -> None:
        """Raises UserError where the run cannot continue from there with this configuration."""
        saved, present = read_record(path), self.checkpoints.record
        said = settle_stages(self.config, saved)
        self.schedule = Schedule(self.config.stages, self.config.mtp_loss)
        recorded = {"stages": stage_records(self.config.stages), "config": asdict(self.config)}
        present = self.checkpoints.record = replace(present, **recorded)
        stage = self.schedule.stage_index(saved.progress.consumed_tokens)
        check_order(self.config, saved, stage, present)
        said += [f"changed: {line}" for line in differences(saved.config, asdict(self.config))]
        said += [f"changed: layout.{line}" for line in differences(saved.layout, present.layout)]
        self.checkpoints.load(path)
        self.progress = settle_progress(saved.progress, stage)
        self.saved_step = self.progress.step
        self.guard.load_state_dict(saved.guard)
        if stage != saved.progress.stage:
            self.guard.start_stage()
        if dist.get_rank() == 0:
            position = f"step {self.progress.step}, {self.progress.consumed_tokens:,} tokens"
            print(f"resumed from {path}: {position}", *said, sep="\n  ", flush=True)

    def _check_what_is_left(self) -> None:
        """Find before the first step what a later stage would die of; raises UserError or ConfigError.

        Every stage must have its sources, and held-out sequences of its length.
        """
        wanted = self.config.evaluation.sequences
        for index, stage in enumerate(self.config.stages[self.progress.stage :], start=self.progress.stage):
            notes = self.data.stage_notes(index, self.schedule.stage_samples(index)) + self._skip_notes(index)
            self.data.stage_samples(index, 1)
            held_out = self.data.held_out_samples(stage.seq_length, 1) if wanted else {}
            if wanted and not held_out:
                notes.append(f"nothing is held out: stage {stage.name} is not evaluated")
            if dist.get_rank() == 0:
                print("".join(f"{note}\n" for note in notes), end="", flush=True)

    def _skip_notes(self, stage: int) -> list[str]:
        return [
            f"  {skipped.tokens:,} tokens of the data are left out after {skipped.after_tokens:,} tokens (skip_data)"
            for skipped in self.config.skip_data
            if self.schedule.stage_index(skipped.after_tokens) == stage
            and skipped.after_tokens >= self.progress.consumed_tokens
        ]

    def _is_done(self) -> bool:
        limit = self.config.max_steps
        return is_finished(self.progress, self.schedule) or (limit is not None and self.progress.step >= limit)

    def _finish(self, reason: str, watchdog: Watchdog) -> None:
        """The last save, if it is not already there, and the callbacks' farewell."""
        wanted = reason != FINISHED or self.config.checkpoint.save_at_end
        if wanted and self.progress.step != self.saved_step:
            self._save()
        self.checkpoints.finish_pending()
        watchdog.beat()
        self.callbacks.on_end(reason)

    def chosen_backends(self) -> dict[str, str]:
        """Layer, attention and norm backends with the reason for each, for the environment report."""
        engine = self.backend == "transformer_engine"
        return {
            "number format": f"{self.config.precision.dtype} ({self.config.precision.dtype_reason})",
            "layers": f"{self.backend} ({self.backend_reason})",
            "attention": "Transformer Engine fused attention" if engine else TORCH_ATTENTION,
            "norm": "Transformer Engine RMSNorm" if engine else "torch.nn.functional.rms_norm",
            "optimizer": type(distributed_parts(self.optimizer)[0].optimizer).__module__ + " AdamW, fp32 states",
        }

    def _record(self, origin: CheckpointRecord | None) -> CheckpointRecord:
        """What is known of the run before its first step; `origin`: of the weights that it starts from."""
        config = self.config
        record = CheckpointRecord(
            name=config.name,
            model=config.model,
            stages=stage_records(config.stages),
            tokenizer_sha256=self.data.tokenizer_sha256,
            tokenizer_folder=config.data.tokenizer,
            thinks=self.data.thinks,
            seed=config.seed,
            dtype=config.precision.dtype,
            lora=config.lora,
            start_checkpoint=config.start.checkpoint if config.start else "",
            start_mtp_layers=self._start_mtp_layers,
            data=source_records(self.data.facts),
            skip_data=config.skip_data,
            order={stage.name: self.data.stage_order(index) for index, stage in enumerate(config.stages)},
            layout=asdict(config.parallel) | {"data_parallel_size": parallel_state.get_data_parallel_world_size()},
            versions=package_versions(),
            backend=self.backend,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            config=asdict(config),
        )
        return with_lineage(record, self.data.is_chat, origin)
