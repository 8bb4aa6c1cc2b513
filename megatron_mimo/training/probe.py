"""A training step by itself, on rows of tokens in memory: what checks and benchmarks of a device run.

Shapes: `s`equence, `b`atch (micro-batch), `D` MTP layers.
"""

import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch import Tensor

from megatron_mimo.config import ModelConfig, OptimizerConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.model.activations import Recompute
from megatron_mimo.model.build import build_model
from megatron_mimo.model.initialize import initialize_weights
from megatron_mimo.platform import cpu
from megatron_mimo.training.batch import Batch, make_batch, to_device
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
    recompute: Recompute = "none"
    rotary_base: int = 10000
    learning_rate: float = 1e-3
    seed: int | None = 0
    make_model: Callable[[], Any] | None = None
    """Makes another model of the same signature on the device, to be trained in this one's place."""

    def __post_init__(self) -> None:
        parallel = ParallelConfig(recompute=self.recompute)
        make = self.make_model
        self.chunks: list[Any] = (
            [make()] if make else build_model(self.model, parallel, self.precision, self.seq_length, self.rotary_base)
        )
        if self.seed is not None:
            initialize_weights(self.chunks, self.model, self.seed)
        self.wrapped = wrap_data_parallel(self.chunks, precision=self.precision)
        self.optimizer = build_optimizer(self.wrapped, OptimizerConfig(), self.precision)
        self.train = TrainStep(self.wrapped, 1 + self.model.mtp_num_layers, 1)
        self.train.mtp_loss_scaling_factor = MTP_LOSS_SCALING_FACTOR

    def batch(self, rows: Tensor) -> Batch:
        """rows [b, s+1] of token ids -> a micro-batch on the device."""
        source = torch.zeros(len(rows), dtype=torch.long)
        return to_device(make_batch({"tokens": rows, "source": source}, self.model.mtp_num_layers, 0, "ignore"))

    def backward(self, batch: Batch) -> LossReport:
        """Losses of one micro-batch, and its gradients in the buffers."""
        self.optimizer.zero_grad()
        return self.train.backward(iter([batch]), 1, (self.micro_batch_size, self.seq_length))

    def update(self) -> float:
        """AdamW on the gradients in the buffers; returns their norm."""
        set_learning_rate(self.optimizer, self.learning_rate)
        norm = gradient_norm(self.optimizer)
        apply_update(self.optimizer, norm, 1.0)
        return norm

    def step(self, batch: Batch) -> tuple[list[float], float]:
        """One whole step: mean losses in nats, main first, then each MTP layer, and the gradient's norm."""
        report = self.backward(batch)
        return report.by_depth, self.update()


def library_rows(count: int, seq_length: int, seed: int = 0) -> Tensor:
    """[count, s+1] bytes of Python's standard library, random places in its sources: text that a model can learn."""
    folder = Path(sysconfig.get_path("stdlib"))
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))[:60])
    text = torch.frombuffer(bytearray(content), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - seq_length - 1, (count,), generator=generator)
    return torch.stack([text[start : start + seq_length + 1] for start in starts.tolist()])
