"""A training step by itself, on rows of tokens in memory: what checks and benchmarks of a device run.

Shapes: `s`equence, `b`atch (micro-batch), `D` MTP layers.
"""

import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch import Tensor

from megatron_mimo.config import LoRAConfig, ModelConfig, OptimizerConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.model.build import build_model
from megatron_mimo.model.initialize import initialize_weights, is_low_rank
from megatron_mimo.model.lora import add_lora
from megatron_mimo.model.packed_documents import DocumentAttention
from megatron_mimo.platform import cpu
from megatron_mimo.training.batch import Batch, make_batch, model_shape, to_device
from megatron_mimo.training.distributed import initialize_parallel_groups, seed_everything
from megatron_mimo.training.optimizer import (
    apply_update,
    build_optimizer,
    gradient_norm,
    set_learning_rate,
    wrap_data_parallel,
)
from megatron_mimo.training.step import LossReport, TrainStep

MTP_LOSS_SCALING_FACTOR = 0.3


@contextmanager
def one_process(seed: int = 0) -> Iterator[None]:
    """Process groups of one rank on this machine's device (NCCL where there is a GPU), destroyed at the end."""
    cpu.install()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        initialize_parallel_groups(ParallelConfig())
        seed_everything(seed)
        yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


@dataclass(kw_only=True)
class Probe:
    """One model with its optimizer, inside `one_process`. `seed` None keeps megatron-core's own random weights.

    With a seed the weights come from their names: the same ones under every backend and precision.
    """

    model: ModelConfig
    precision: PrecisionConfig
    seq_length: int
    micro_batch_size: int = 1
    attention: DocumentAttention = "ignore"
    """How documents that share a row are kept apart; each ends with `end_of_document`."""
    end_of_document: int = 10
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """What of it one process can have: recomputation, overlap."""
    lora: LoRAConfig | None = None
    rotary_base: int = 10000
    learning_rate: float = 1e-3
    seed: int | None = 0
    make_model: Callable[[], Any] | None = None
    """Makes another model of the same signature on the device, to be trained in this one's place."""

    def __post_init__(self) -> None:
        make, shape = self.make_model, (self.seq_length, self.rotary_base)
        self.chunks: list[Any] = [make()] if make else build_model(self.model, self.parallel, self.precision, *shape)
        if self.seed is not None:
            initialize_weights(self.chunks, self.model, self.seed)
        if self.lora:
            add_lora(self.chunks, self.lora)
            initialize_weights(self.chunks, self.model, self.seed or 0, wanted=is_low_rank)
        self.wrapped = wrap_data_parallel(self.chunks, self.parallel.overlap_communication, self.precision)
        self.optimizer = build_optimizer(self.wrapped, OptimizerConfig(), self.precision)
        self.train = TrainStep(self.wrapped, 1 + self.model.mtp_num_layers, 1)
        self.train.mtp_loss_scaling_factor = MTP_LOSS_SCALING_FACTOR

    def batch(self, rows: Tensor) -> Batch:
        """rows [b, s+1] of token ids -> a micro-batch on the device."""
        source = torch.zeros(len(rows), dtype=torch.long)
        sample = {"tokens": rows, "source": source}
        return to_device(make_batch(sample, self.model.mtp_num_layers, self.end_of_document, self.attention))

    def backward(self, *batches: Batch) -> LossReport:
        """Losses of a step's micro-batches, and their gradients in the buffers."""
        self.optimizer.zero_grad()
        shape = model_shape(self.attention, self.micro_batch_size, self.seq_length)
        return self.train.backward(iter(batches), len(batches), shape)

    def update(self) -> float:
        """AdamW on the gradients in the buffers; returns their norm."""
        set_learning_rate(self.optimizer, self.learning_rate)
        norm = gradient_norm(self.optimizer)
        apply_update(self.optimizer, norm, 1.0)
        return norm

    def step(self, *batches: Batch) -> tuple[list[float], float]:
        """One whole step: mean losses in nats, main first, then each MTP layer, and the gradient's norm."""
        report = self.backward(*batches)
        return report.by_depth, self.update()


def library_rows(count: int, seq_length: int, seed: int = 0) -> Tensor:
    """[count, s+1] bytes of Python's standard library, random places in its sources: text that a model can learn."""
    folder = Path(sysconfig.get_path("stdlib"))
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))[:60])
    text = torch.frombuffer(bytearray(content), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - seq_length - 1, (count,), generator=generator)
    return torch.stack([text[start : start + seq_length + 1] for start in starts.tolist()])
