"""Losses on held-out sequences inside the loop."""

from collections.abc import Iterator

import torch
from megatron.core import parallel_state

from megatron_mimo.config import StageConfig, TrainingConfig
from megatron_mimo.data.loading.loader import collate
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
from megatron_mimo.training.metrics import EvaluationMetrics
from megatron_mimo.training.state import Progress
from megatron_mimo.training.step import TrainStep
from megatron_mimo.training.training_data import TrainingData


class Evaluator:
    """Reads the first sequences of every source's held-out split, the same ones every time."""

    def __init__(self, config: TrainingConfig, data: TrainingData, backend: str, step: TrainStep) -> None:
        self.config = config
        self.data = data
        self.backend = backend
        self.step = step

    def is_due(self, before: Progress, after: Progress, stage_ended: bool) -> bool:
        """True at the end of a stage, and of the step that passes a multiple of `evaluation.every_tokens`."""
        every = self.config.evaluation.every_tokens
        if self.config.evaluation.sequences == 0:
            return False
        passed = every is not None and after.consumed_tokens // every > before.consumed_tokens // every
        return passed or stage_ended

    def evaluate(self, progress: Progress, stage: StageConfig) -> EvaluationMetrics | None:
        """Mean loss by source at the stage's sequence length; None where nothing is held out."""
        held_out = self.data.held_out_samples(stage.seq_length, self.config.evaluation.sequences)
        samples = [dataset[index] for dataset in held_out.values() for index in range(len(dataset))]
        if not samples:
            return None
        ranks, size = parallel_state.get_data_parallel_world_size(), stage.micro_batch_size
        # The interleaved schedule takes micro-batches in groups of the pipeline's size; the others take any number.
        group = size * ranks * self.config.parallel.pipeline_model_parallel_size
        count = -(-len(samples) // group) * self.config.parallel.pipeline_model_parallel_size
        attention = document_attention(self.config, stage, self.backend)
        batches = self._batches(samples, stage, count, attention)
        report = self.step.evaluate(batches, count, model_shape(attention, size, stage.seq_length))
        names = self.data.sources
        depths = [report.by_source(names, depth) for depth in range(1 + self.config.model.mtp_depths)]
        return EvaluationMetrics(
            step=progress.step,
            consumed_tokens=progress.consumed_tokens,
            losses=depths[0],
            mtp_losses={name: [depth[name] for depth in depths[1:]] for name in depths[0]},
        )

    def _batches(
        self, samples: list[dict], stage: StageConfig, count: int, attention: DocumentAttention
    ) -> Iterator[Batch]:
        """This rank's micro-batches; the places beyond the last sample repeat the first ones with no weight."""
        size = stage.micro_batch_size
        rank, ranks = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        for number in range(count):
            places = [(number * ranks + rank) * size + offset for offset in range(size)]
            rows = collate([samples[place % len(samples)] for place in places])
            depths, place = self.config.model.mtp_num_layers, context_parallel_place()
            batch = make_batch(rows, depths, self.data.eod_token_id, attention, *place)
            batch = with_draft_steps(batch, self.config.model.mtp_recursive_steps)
            batch.loss_mask *= torch.tensor([float(place < len(samples)) for place in places])[None, :, None]
            yield to_device(batch)
