"""The stream of micro-batches of a stage for this rank."""

import time
from collections.abc import Iterator
from pathlib import Path

from megatron.core import parallel_state

from megatron_mimo.config import PretrainConfig, StageConfig
from megatron_mimo.data.datasets import build_stage_dataset
from megatron_mimo.data.loader import build_loader
from megatron_mimo.data.manifest import Manifest
from megatron_mimo.training.batch import (
    Batch,
    DocumentAttention,
    cut_for_context_parallel,
    document_attention,
    make_batch,
    to_device,
)
from megatron_mimo.training.measure import StepTimer
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.state import Progress, micro_batch_indices


class StageFeed:
    """Batches from `progress` to the end of its stage, read ahead by the loader."""

    def __init__(
        self,
        config: PretrainConfig,
        config_folder: Path,
        schedule: Schedule,
        progress: Progress,
        manifest: Manifest,
        backend: str,
    ) -> None:
        """Raises UserError when data, mixture and tokenizer do not fit together."""
        stage = config.stages[progress.stage]
        self._config = config
        self._eod_token_id = manifest.tokenizer.eod_token_id
        self._attention: DocumentAttention = document_attention(config, stage, backend)
        dataset = build_stage_dataset(
            config.data,
            config_folder / stage.mixture,
            stage.seq_length,
            # Rolled-back steps are read again, never more: the plan's samples suffice.
            schedule.stage_samples(progress.stage),
            config.seed + progress.stage,
        )
        # The mixture's order of sources is not the manifest's, which the reports use everywhere.
        self._source_numbers = [list(manifest.sources).index(name) for name in dataset.sources]
        rank, size = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        self._rows = build_loader(dataset, micro_batch_indices(progress, schedule, rank, size), config.data)

    def batches(self, timer: StepTimer) -> Iterator[Batch]:
        """The next micro-batches; the time spent waiting for the loader is added to `timer`."""
        while True:
            start = time.perf_counter()
            rows = next(self._rows)
            timer.data_seconds += time.perf_counter() - start
            source = rows["source"].new_tensor([self._source_numbers[number] for number in rows["source"].tolist()])
            batch = make_batch(
                rows["tokens"], source, self._config.model.mtp_num_layers, self._eod_token_id, self._attention
            )
            yield to_device(cut_for_context_parallel(batch))


def micro_batches_of_step(stage: StageConfig, global_batch_size: int) -> int:
    """Micro-batches of one data-parallel rank in a step."""
    return global_batch_size // (stage.micro_batch_size * parallel_state.get_data_parallel_world_size())
