"""Model, optimizer and checkpoints of a tiny run in this process, without data and without a launcher."""

from pathlib import Path
from typing import Any

import torch

from megatron_mimo.config import PretrainConfig
from support.engine_like import use_norms
from support.records import record
from support.tiny import SEQ_LENGTH, tiny_config, tiny_tree

BATCH = 4


def make_config(folder: Path, **settings: Any) -> PretrainConfig:
    tree = tiny_tree(folder, folder / "run") | settings
    tree["model"]["num_layers"] = 2
    return tiny_config(tree)


class Run:
    """Model, optimizer and checkpoints of a run, without its data."""

    def __init__(self, config: PretrainConfig, norm: type | None = None, seed: int = 0) -> None:
        from megatron_mimo.model.build import build_model
        from megatron_mimo.model.initialize import initialize_weights
        from megatron_mimo.training.checkpoint import Checkpointer
        from megatron_mimo.training.optimizer import build_optimizer, wrap_data_parallel
        from megatron_mimo.training.step import TrainStep

        self.chunks = build_model(config.model, config.parallel, config.precision, SEQ_LENGTH, 10000)
        initialize_weights(self.chunks, config.model, seed)
        self.norms = use_norms(self.chunks, norm) if norm else []
        wrapped = wrap_data_parallel(self.chunks, config.parallel.overlap_communication, config.precision)
        self.optimizer = build_optimizer(wrapped, config.optimizer, config.precision)
        self.step = TrainStep(wrapped, 1 + config.model.mtp_num_layers, 1)
        folder, saved = Path(config.output_dir) / "checkpoints", record(model=config.model)
        self.checkpoints = Checkpointer(folder, config.checkpoint, wrapped, self.optimizer, saved)

    def train(self, steps: range) -> list[float]:
        from megatron_mimo.training.optimizer import apply_update, gradient_norm, set_learning_rate

        norms = []
        for number in steps:
            self.optimizer.zero_grad()
            self.step.backward(iter([random_batch(number)]), 1, (BATCH, SEQ_LENGTH))
            set_learning_rate(self.optimizer, 1e-2)
            norms.append(gradient_norm(self.optimizer))
            apply_update(self.optimizer, norms[-1], 1.0)
        return norms

    def save(self) -> Path:
        from megatron_mimo.training.state import Progress

        return self.checkpoints.save(Progress(step=1), {})

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.chunks[0].named_parameters()}


def random_batch(seed: int) -> Any:
    from megatron_mimo.training.batch import make_batch

    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 320, (BATCH, SEQ_LENGTH + 1), generator=generator)
    return make_batch({"tokens": rows, "source": torch.zeros(BATCH, dtype=torch.long)}, 1, 0, "ignore")
