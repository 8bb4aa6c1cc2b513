"""Whether a run's checkpoints will fit on the disk: known before training, not at the first save.

A checkpoint holds the weights in their number format and, for every trained parameter, a master copy and AdamW's two
moments in fp32, whatever the parallel layout. Before an old checkpoint is removed the new one is complete, so
`keep_last` checkpoints need room for one more.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import ModelConfig, RLConfig, TrainingConfig, UserError
from megatron_mimo.config.run import CheckpointConfig, RunConfig
from megatron_mimo.plan.memory import model_parameters
from megatron_mimo.platform.formats import format_bytes
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, STEP_FOLDER
from megatron_mimo.training.schedule import Schedule

OPTIMIZER_BYTES = 12
"""A trained parameter: master weight and two moments in fp32."""
CHECKPOINT_OVERHEAD_RATIO, CHECKPOINT_OVERHEAD_BYTES = 1.02, 400_000
"""Names, shapes and headers of tensors; what a small checkpoint has beside its tensors."""
LOG_BYTES_PER_STEP = 4_000
"""metrics.jsonl and TensorBoard's two files."""
OTHER_BYTES = 300_000
"""Report, configuration, TensorBoard's first records."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a run will still write to its folder and leave there at some moment."""

    checkpoint_bytes: int
    checkpoints: int
    """At most at a time, beyond those that are there already."""
    milestones: int
    """Kept for good by checkpoint.keep_every_tokens, beyond those."""
    other_bytes: int
    """Logs, and the copies that in-loop scores make."""

    @property
    def bytes(self) -> int:
        """Without milestones, which can be moved elsewhere while the run continues."""
        return self.checkpoints * self.checkpoint_bytes + self.other_bytes

    @property
    def bytes_with_milestones(self) -> int:
        return self.bytes + self.milestones * self.checkpoint_bytes


def check_disk(config: TrainingConfig | RLConfig, folder: Path) -> list[str]:
    """Warnings for the start of a run in `folder`; raises UserError where its next checkpoints will not fit."""
    need, free = disk_need(config, folder), shutil.disk_usage(_existing(folder)).free
    if need.bytes > free:
        raise UserError(
            f"not enough room for this run in {folder}: {need.checkpoints} checkpoints of"
            f" {format_bytes(need.checkpoint_bytes)} (checkpoint.keep_last={config.checkpoint.keep_last}, and the next"
            f" one) and {format_bytes(need.other_bytes)} of logs need {format_bytes(need.bytes)}, the disk has"
            f" {format_bytes(free)} free.\nFree some space, choose another output_dir, or lower checkpoint.keep_last."
        )
    if need.bytes_with_milestones > free:
        return [
            f"warning: the {need.milestones} checkpoints that checkpoint.keep_every_tokens keeps for good will need"
            f" {format_bytes(need.bytes_with_milestones)} with the others; {folder} has {format_bytes(free)} free:"
            " move older ones away while the run goes on"
        ]
    return []


def disk_need(config: TrainingConfig | RLConfig, folder: Path) -> DiskNeed:
    """From the configuration, and from the checkpoints that `folder` holds of it."""
    steps, milestones = _plan(config)
    saved = sorted(int(match[1]) for match in map(STEP_FOLDER.fullmatch, _names(folder / CHECKPOINTS)) if match)
    done = saved[-1] if saved else 0
    # Those in place are removed as new ones come; `keep_last` of them and the new one stand side by side.
    there = min(len(saved), config.checkpoint.keep_last)
    left, keep = max(steps - done, 0), config.checkpoint.keep_last
    return DiskNeed(
        checkpoint_bytes=checkpoint_bytes(config),
        checkpoints=min(saves_left(config.checkpoint, steps, done), keep + 1 - there),
        milestones=milestones * left // max(steps, 1),
        other_bytes=OTHER_BYTES + left * LOG_BYTES_PER_STEP + _score_bytes(config),
    )


def saves_left(checkpoint: CheckpointConfig, steps: int, done: int) -> int:
    """Checkpoints between step `done` and the end of a run of `steps`, its last one included."""
    if done >= steps:
        return 0
    at_end = checkpoint.save_at_end and steps % checkpoint.every_steps != 0
    return steps // checkpoint.every_steps - done // checkpoint.every_steps + int(at_end)


def checkpoint_bytes(config: RunConfig) -> int:
    """Size of one checkpoint."""
    weights = sum(model_parameters(config.model)) + _low_rank_parameters(config)
    tensors = weights * _weight_bytes(config) + OPTIMIZER_BYTES * _trained_parameters(config)
    return round(tensors * CHECKPOINT_OVERHEAD_RATIO) + CHECKPOINT_OVERHEAD_BYTES


def _trained_parameters(config: RunConfig) -> int:
    main, mtp = model_parameters(config.model)
    if isinstance(config, RLConfig):
        return main + mtp if config.mtp == "detached" else main
    if isinstance(config, TrainingConfig) and config.lora:
        return _low_rank_parameters(config)
    if isinstance(config, TrainingConfig) and config.start and config.start.train != "all":
        return mtp
    return main + mtp


def _low_rank_parameters(config: RunConfig) -> int:
    """Rank x (inputs + outputs) of every linear layer, the MTP layers' projection included."""
    if not (isinstance(config, TrainingConfig) and config.lora):
        return 0
    model: ModelConfig = config.model
    h, f = model.hidden_size, model.ffn_hidden_size
    query, key = model.num_attention_heads * model.kv_channels, model.num_query_groups * model.kv_channels
    layer = (h + query + 2 * key) + (query + h) + (h + 2 * f) + (f + h)
    return config.lora.rank * ((model.num_layers + model.mtp_num_layers) * layer + model.mtp_num_layers * 3 * h)


def _weight_bytes(config: RunConfig) -> int:
    """Of RL's undecided number format the larger one."""
    return 2 if config.precision.dtype == "bf16" else 4


def _score_bytes(config: TrainingConfig | RLConfig) -> int:
    """In-loop scores write the weights and export them; both go again."""
    if isinstance(config, RLConfig) or not config.evaluation.scores:
        return 0
    return 2 * sum(model_parameters(config.model)) * _weight_bytes(config)


def _plan(config: TrainingConfig | RLConfig) -> tuple[int, int]:
    """(steps, checkpoints kept for good) of the whole run."""
    if isinstance(config, RLConfig):
        return config.num_steps, 0
    steps = Schedule(config.stages, config.mtp_loss).total_steps
    steps = min(steps, config.max_steps or steps)
    every = config.checkpoint.keep_every_tokens
    return steps, config.total_tokens // every if every else 0


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that is there."""
    return folder if folder.exists() else _existing(folder.absolute().parent)
