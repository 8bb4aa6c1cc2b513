"""Train the same run in several layouts inside one torchrun: JSON in (argument 1), losses of every step out (2).

A job: `tree` and `folder` of a run, and perhaps `packs` (rows have their documents' bounds, as long ones have),
`engine` (Transformer Engine's way through attention, with a stand-in for its kernels), `segments` (samples bring
segments and loss masks, as chat data does).
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.tiny import tiny_config

SEGMENT_TOKENS = 23
"""Of samples that bring segments: they end elsewhere than documents and pieces of context parallelism do."""


def main(jobs_path: Path, results_path: Path) -> None:
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state

    from megatron_mimo.platform import cpu
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.distributed import initialize_parallel_groups, is_reporting_rank, seed_everything
    from megatron_mimo.training.metrics import StepMetrics
    from megatron_mimo.training.trainer import Trainer

    class Collector(Callback):
        def __init__(self) -> None:
            self.steps: list[StepMetrics] = []

        def on_step(self, metrics: StepMetrics) -> None:
            self.steps.append(metrics)

    torch.set_num_threads(1)
    cpu.install()
    # One default group for all layouts: torchrun's store remembers the addresses of a group's first use.
    dist.init_process_group("gloo")
    results = {}
    for name, job in json.loads(jobs_path.read_text()).items():
        config = tiny_config(job["tree"])
        initialize_parallel_groups(config.parallel)
        seed_everything(config.seed)
        collector = Collector()
        with documents_and_attention(job):
            Trainer(config, training_data(config, job), collector).fit()
        if is_reporting_rank():
            results[name] = [
                {"step": m.step, "losses": [m.loss, *m.mtp_losses], "grad_norm": m.grad_norm} for m in collector.steps
            ]
        parallel_state.destroy_model_parallel()
    # The rank that holds a layout's losses is the one with its last pipeline stage, so each writes its own part.
    results_path.with_name(f"{results_path.name}.rank{os.environ['RANK']}").write_text(json.dumps(results))


@contextmanager
def documents_and_attention(job: dict[str, Any]) -> Iterator[None]:
    """The program as the job wants it: what this machine's backend and short rows would not choose."""
    import pytest
    from megatron.core.extensions import transformer_engine
    from megatron.core.transformer.attention import SelfAttention

    from megatron_mimo.model import spec
    from megatron_mimo.training import batch
    from support.engine_like import EngineCore

    with pytest.MonkeyPatch.context() as patch:
        if job.get("packs"):
            patch.setattr(batch, "choose_document_attention", lambda *_: "packed")
        if job.get("engine"):
            patch.setattr(transformer_engine, "TEDotProductAttention", EngineCore)
            from megatron_mimo.model.engine_attention import EngineAttention

            patch.setattr(spec.TorchSpecProvider, "core_attention", lambda self: EngineAttention)
            patch.setattr(spec, "RotarySelfAttention", SelfAttention)
        yield


def training_data(config: Any, job: dict[str, Any]) -> Any:
    from megatron_mimo.training.training_data import PretrainingData

    class Segmented(PretrainingData):
        def stage_notes(self, stage: int, num_samples: int) -> list[str]:
            return []

        def stage_samples(self, stage: int, num_samples: int) -> Any:
            return WithSegments(super().stage_samples(stage, num_samples))

        def held_out_samples(self, seq_length: int, sequences: int) -> dict[str, Any]:
            return {name: WithSegments(part) for name, part in super().held_out_samples(seq_length, sequences).items()}

    return (Segmented if job.get("segments") else PretrainingData)(config, Path(job["folder"]))


class WithSegments:
    """Samples of a data set with segments, and a loss mask that leaves a third of the tokens out."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples
        self.sources = getattr(samples, "sources", None)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import numpy as np

        sample = self._samples[index]
        segments = np.arange(len(sample["tokens"])) // SEGMENT_TOKENS
        return sample | {"segments": segments, "loss_mask": sample["tokens"] % 3 != 0}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
