"""One rank of the policy's trainer: a batch of rollouts in, new weights out (report section 3.3, Eq. 1)."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.convert.huggingface import FolderSettings, check_tokenizer
from megatron_mimo.model.build import build_model
from megatron_mimo.rl.policy_run import policy_record, read_start, resolve_start, tokenizer_folder
from megatron_mimo.rl.policy_step import PolicyStep
from megatron_mimo.rl.reference_policy import ReferencePolicy
from megatron_mimo.rl.train_batch import Row, TrainBatch
from megatron_mimo.rl.update_metrics import Update, step_metrics
from megatron_mimo.rl.weight_broadcast import MeetingPoint
from megatron_mimo.rl.weight_export import broadcast_weights, write_weights
from megatron_mimo.training.checkpoint import Checkpointer
from megatron_mimo.training.checkpoint_files import CHECKPOINTS
from megatron_mimo.training.checkpoint_record import read_record
from megatron_mimo.training.guards import LossGuard, TrainingStopped
from megatron_mimo.training.optimizer import (
    apply_update,
    build_optimizer,
    gradient_norms,
    set_learning_rate,
    wrap_data_parallel,
)
from megatron_mimo.training.start import start_from
from megatron_mimo.training.state import Progress

MTP = "mtp."
"""Prefix of the parameters that the policy's gradient does not reach."""


class PolicyTrainer:
    """Model, optimizer and checkpoints of one RL run on the process groups that exist."""

    def __init__(self, config: RLConfig) -> None:
        """Raises UserError where start.checkpoint does not fit the model, or the tokenizer not the checkpoint."""
        self.config = config = resolve_start(config)
        start = read_start(config)
        tokenizer = check_tokenizer(tokenizer_folder(config, start), config.model, start.tokenizer_sha256)
        model, stage = replace(config.model, vocab_size=start.exported_vocab_size), start.last_stage
        self._folder_settings = FolderSettings(model, stage.rotary_base, start.context_length, tokenizer)
        models = build_model(config.model, config.parallel, config.precision, stage.seq_length, stage.rotary_base)
        start_from(models, config.model, config.start, hash_files=False)
        trains_mtp = config.mtp == "detached"
        self._mtp_num_layers = config.model.mtp_num_layers if trains_mtp else 0
        for part in models:
            for name, parameter in part.named_parameters():
                parameter.requires_grad_(trains_mtp or not name.startswith(MTP))
        # On the last pipeline stage the copy of the embedding for the MTP layers has no gradient of its own.
        self.chunks = wrap_data_parallel(models, overlap=False, precision=config.precision)
        self.optimizer = build_optimizer(self.chunks, config.optimizer, config.precision, apart=MTP)
        self._step = PolicyStep(self.chunks, config.loss)
        self._reference = ReferencePolicy(models) if config.loss.kl_coefficient else None
        self._guard = LossGuard(config.guard)
        folder, record = Path(config.output_dir) / CHECKPOINTS, policy_record(config, start)
        self._checkpoints = Checkpointer(folder, config.checkpoint, self.chunks, self.optimizer, record)
        self._consumed_tokens = 0

    def train(self, batch: TrainBatch) -> dict[str, float]:
        """All updates of one step; returns its metrics, the same on every rank.

        Old log-probabilities are computed once, before the first update. With one mini-batch they are those of the
        update itself, for no other has moved the policy. Raises TrainingStopped where the guard gives up.

        Metrics: means over tokens are `loss` (of the mini-batches), `ratio`, `clipped_high`, `clipped_low`, `kl`,
        `entropy`, `rollout_gap` (|trainer's - engine's log-probability|), with a KL term `reference_kl`; also
        `ratio_max`, `rollout_gap_max`, `grad_norm` and `grad_norm_max` over the updates, `tokens`, `updates`,
        `skipped_updates`, `learning_rate`, `old_logprobs_seconds`, `update_seconds`. Of MTP layers that are trained:
        `mtp_loss`, their cross entropy in nats per response token, the mean over layers; `mtp_grad_norm`,
        `mtp_skipped_updates`.
        """
        self._checkpoints.poll()
        mini_batches = [mini_batch for mini_batch in batch.mini_batches if mini_batch.num_tokens]
        start = time.perf_counter()
        rank, size = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        packed = (self.config.micro_batch_tokens, rank, size, self._mtp_num_layers)
        rows = [mini_batch.rows(*packed) for mini_batch in mini_batches]
        if self._reference is not None:
            rows = self._reference.score(self._step, rows)
        entropy = 0.0
        if len(rows) > 1:
            scored = [self._step.score(part) for part in rows]
            rows, entropy = [part for part, _ in scored], sum(value for _, value in scored)
        scored_at = time.perf_counter()
        updates = [self._update(part, of.num_tokens) for part, of in zip(rows, mini_batches, strict=True)]
        metrics = step_metrics(updates, entropy)
        self._consumed_tokens += sum(mini_batch.num_tokens for mini_batch in mini_batches)
        return metrics | {
            "learning_rate": self.config.learning_rate,
            "old_logprobs_seconds": scored_at - start,
            "update_seconds": time.perf_counter() - scored_at,
        }

    def _update(self, rows: list[Row], num_tokens: int) -> Update:
        set_learning_rate(self.optimizer, self.config.learning_rate, apart=self.config.mtp_learning_rate)
        self.optimizer.zero_grad()
        report = self._step.backward(rows, num_tokens)
        grad_norm, mtp_grad_norm = gradient_norms(self.optimizer)
        verdict = self._guard.judge(report.loss, grad_norm)
        if verdict == "ok":
            apply_update(self.optimizer, grad_norm, self.config.optimizer.clip_grad, norm_apart=mtp_grad_norm)
        elif dist.get_rank() == 0:
            print(f"update left out: {verdict}: {self._guard.reason}", flush=True)
        if verdict == "stop":
            raise TrainingStopped(f"RL stopped: {self._guard.reason}")
        return Update(report, grad_norm, verdict != "ok", mtp_grad_norm if self._mtp_num_layers else None)

    def write_weights(self, folder: Path) -> None:
        """The present weights as a Hugging Face folder, written by rank 0; see `weight_export.write_weights`."""
        write_weights(self.chunks, self._folder_settings, self.config.model.vocab_size, folder)

    def send_weights(self, point: MeetingPoint) -> str | None:
        """The same to the engines that come to `point`; see `weight_export.broadcast_weights`."""
        return broadcast_weights(self.chunks, self._folder_settings, self.config.model.vocab_size, point)

    def save(self, step: int, driver_state: dict[str, Any]) -> Path:
        """One checkpoint, all or nothing: weights, optimizer, RNG, and `driver_state` (JSON values)."""
        progress = Progress(step=step, consumed_tokens=self._consumed_tokens, samples_in_stage=step)
        return self._checkpoints.save(progress, self._guard.state_dict(), driver_state)

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        """Load the newest good checkpoint of output_dir; its step and driver state, or None where there is none."""
        self._checkpoints.finish_pending()
        latest = self._checkpoints.latest()
        if latest is None:
            return None
        self._check_same_mtp(latest)
        saved = self._checkpoints.load(latest)
        if saved.driver is None:
            raise UserError(f"{latest} is of another kind of run than RL: choose a new output_dir")
        self._guard.load_state_dict(saved.guard)
        self._consumed_tokens = saved.progress.consumed_tokens
        return saved.progress.step, saved.driver

    def _check_same_mtp(self, checkpoint: Path) -> None:
        """Raise UserError where the run's optimizer holds other parameters than the configuration trains."""
        before = read_record(checkpoint).config.get("mtp", "frozen")
        if before != self.config.mtp:
            raise UserError(
                f"{checkpoint} was made with mtp={before}, and the configuration says mtp={self.config.mtp}: its"
                f" optimizer does not fit. Set mtp={before}, or start a new run from it: a new output_dir, with"
                f" start.checkpoint={checkpoint}"
            )

    def close(self) -> None:
        """Finish a checkpoint that is still written in the background."""
        self._checkpoints.finish_pending()
