"""The stream of micro-batches of a stage for this rank."""

import time
from collections.abc import Iterator

from megatron.core import parallel_state

from megatron_mimo.config import StageConfig, TrainingConfig
from megatron_mimo.data.loading.loader import build_loader
from megatron_mimo.model.packed_documents import DocumentAttention
from megatron_mimo.training.batch import (
    Batch,
    context_parallel_place,
    document_attention,
    make_batch,
    model_shape,
    to_device,
)
from megatron_mimo.training.draft_steps import with_draft_steps
from megatron_mimo.training.measure import StepTimer
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.skips import in_order, stage_jumps
from megatron_mimo.training.state import Progress, micro_batch_indices
from megatron_mimo.training.training_data import TrainingData


class StageFeed:
    """Batches from `progress` to the end of its stage, read ahead by the loader."""

    def __init__(
        self, config: TrainingConfig, data: TrainingData, schedule: Schedule, progress: Progress, backend: str
    ) -> None:
        """Raises UserError when data, mixture and tokenizer do not fit together."""
        stage = config.stages[progress.stage]
        self._config = config
        self._eod_token_id = data.eod_token_id
        self._attention: DocumentAttention = document_attention(config, stage, backend)
        self.model_shape = model_shape(self._attention, stage.micro_batch_size, stage.seq_length)
        # Of the position, not of the plan: the batches before it may have been of another size.
        count = progress.samples_in_stage + schedule.samples_to_stage_end(progress.consumed_tokens)
        jumps = stage_jumps(config.skip_data, schedule, progress)
        samples = data.stage_samples(progress.stage, count + sum(jump.length for jump in jumps))
        # A mixture has its own order of sources; the reports use that of the whole data.
        self._source_numbers = [data.sources.index(name) for name in samples.sources]
        rank, size = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        order = in_order(micro_batch_indices(progress, schedule, rank, size), jumps)
        self._rows = build_loader(samples, order, config.data)

    def batches(self, timer: StepTimer) -> Iterator[Batch]:
        """The next micro-batches; the time spent waiting for the loader is added to `timer`."""
        while True:
            start = time.perf_counter()
            rows = next(self._rows)
            timer.data_seconds += time.perf_counter() - start
            numbers = [self._source_numbers[number] for number in rows["source"].tolist()]
            rows |= {"source": rows["source"].new_tensor(numbers)}
            depths, place = self._config.model.mtp_num_layers, context_parallel_place()
            batch = make_batch(rows, depths, self._eod_token_id, self._attention, *place)
            batch = with_draft_steps(batch, self._config.model.mtp_recursive_steps)
            yield to_device(batch)


def micro_batches_of_step(stage: StageConfig, global_batch_size: int) -> int:
    """Micro-batches of one data-parallel rank in a step."""
    return global_batch_size // (stage.micro_batch_size * parallel_state.get_data_parallel_world_size())
