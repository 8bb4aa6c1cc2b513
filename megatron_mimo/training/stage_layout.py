"""Which stage's layout a run's ranks take (`stages[].parallel`)."""

import gc
from pathlib import Path

import torch
import torch.distributed as dist

from megatron_mimo.config import LoopConfig, ParallelConfig, TrainingConfig, UserError
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, step_folders
from megatron_mimo.training.checkpoint_record import read_record
from megatron_mimo.training.schedule import Schedule


class StageLayout:
    """Called by every rank once all have met: the layout of the stage that comes next.

    That is the one `stage` names; before anybody knows, the newest checkpoint's. Where that one turns out to be damaged
    and an older one lies in another stage, the trainer says so and is laid out again.
    """

    def __init__(self, config: LoopConfig) -> None:
        self._config = config
        self.stage: int | None = None

    def __call__(self) -> ParallelConfig:
        if not isinstance(self._config, TrainingConfig):
            return self._config.parallel  # stages that are known only after this have no layouts
        if self.stage is None:
            told = [present_stage(self._config) if dist.get_rank() == 0 else 0]
            dist.broadcast_object_list(told, src=0)
            self.stage = told[0]
        return self._config.layout(self._config.stages[self.stage])


def present_stage(config: TrainingConfig) -> int:
    """The stage of the newest checkpoint, which is not examined; the first where there is none."""
    if all(stage.parallel is None for stage in config.stages):
        return 0
    found = step_folders(Path(config.output_dir) / CHECKPOINTS)
    try:
        consumed = read_record(found[-1]).progress.consumed_tokens if found else 0
    except UserError:
        return 0
    return Schedule(config.stages, config.mtp_loss).stage_index(consumed)


def release_memory() -> None:
    """Give back what a trainer held that nobody refers to any more; the next one comes to the same device."""
    gc.collect()
    torch.cuda.empty_cache()
