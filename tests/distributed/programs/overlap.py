"""Train runs with and without overlapped communication in one start of the ranks: JSON jobs in (1), metrics out (2).

A job: `tree` and `folder` of a run, `bucket_size` (parameters a bucket; null for megatron-core's own),
`packs` (rows have their documents' bounds, as Transformer Engine's have).
"""

import json
import sys
from pathlib import Path
from typing import Any

from support.tiny import tiny_config


def train(jobs: dict[str, Any], results_path: Path) -> None:
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state

    from megatron_mimo.platform import cpu
    from megatron_mimo.training.distributed import initialize_parallel_groups, seed_everything

    torch.set_num_threads(1)
    cpu.install()
    dist.init_process_group("gloo")
    results = {}
    for name, job in jobs.items():
        config = tiny_config(job["tree"])
        initialize_parallel_groups(config.parallel)
        seed_everything(config.seed)
        results[name] = train_one(config, job)
        parallel_state.destroy_model_parallel()
    results_path.with_name(f"{results_path.name}.rank{dist.get_rank()}").write_text(json.dumps(results))
    dist.destroy_process_group()


def train_one(config: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    """What each step and evaluation reported on this rank, and the buckets of its first chunk."""
    from dataclasses import asdict

    import megatron_mimo.training.optimizer as optimizer
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.trainer import Trainer
    from megatron_mimo.training.training_data import PretrainingData

    seen: list[dict[str, Any]] = []

    class Collector(Callback):
        def on_step(self, metrics: Any) -> None:
            seen.append({"step": metrics.step, "losses": [metrics.loss, *metrics.mtp_losses]})
            seen[-1] |= {"grad_norm": metrics.grad_norm, "batch": metrics.global_batch_size}

        def on_evaluation(self, metrics: Any) -> None:
            seen.append(asdict(metrics))

    import megatron_mimo.training.batch as batch

    real, real_choice = optimizer.DistributedDataParallelConfig, batch.choose_document_attention
    if job["packs"]:
        batch.choose_document_attention = lambda *_: "packed"
    optimizer.DistributedDataParallelConfig = lambda **named: real(**named, bucket_size=job["bucket_size"])
    try:
        trainer = Trainer(config, PretrainingData(config, Path(job["folder"])), Collector())
        for chunk in trainer.chunks:
            # As with CUDA: what a pipeline stage has sent is freed. The interleaved schedule frees what it still sends,
            # which is safe in the order of a CUDA stream alone.
            whole = config.parallel.virtual_pipeline_model_parallel_size is None
            chunk.module.config.deallocate_pipeline_outputs = config.parallel.overlap_communication and whole
        trainer.fit()
    finally:
        optimizer.DistributedDataParallelConfig, batch.choose_document_attention = real, real_choice
    seen.append({"bucket_groups": len(trainer.chunks[0].bucket_groups)})
    return seen


if __name__ == "__main__":
    train(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
