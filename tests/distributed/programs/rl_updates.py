"""RL updates in several layouts inside one torchrun: JSON jobs in (argument 1), metrics and weights of each out.

A job: `tree` (an RLConfig), `steps` (train on the rollouts of these seeds), optional `save` and `restore`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from support.rl_tiny import make_groups, rl_config


def main(jobs_path: Path) -> None:
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state

    from megatron_mimo.platform import cpu
    from megatron_mimo.training.distributed import initialize_parallel_groups, seed_everything

    torch.set_num_threads(1)
    cpu.install()
    # One default group for all layouts: torchrun's store remembers the addresses of a group's first use.
    dist.init_process_group("gloo")
    for job in json.loads(jobs_path.read_text()):
        config = rl_config(job["tree"])
        initialize_parallel_groups(config.parallel)
        seed_everything(config.seed)
        metrics = run(config, job)
        if dist.get_rank() == dist.get_world_size() - 1:
            (Path(config.output_dir) / f"{job['name']}.json").write_text(json.dumps(metrics))
        parallel_state.destroy_model_parallel()
        dist.barrier()


def run(config: Any, job: dict[str, Any]) -> list[dict[str, float]]:
    from megatron_mimo.rl.policy_trainer import PolicyTrainer
    from megatron_mimo.rl.train_batch import TrainBatch

    trainer = PolicyTrainer(config)
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if job.get("restore"):
        restored = trainer.restore()
        assert restored == (job["restore"], {"pool": ["a", 1]}), restored
    metrics = [trainer.train(TrainBatch.from_groups(make_groups(seed), config)) for seed in job["seeds"]]
    if job.get("save"):
        trainer.save(job["save"], {"pool": ["a", 1]})
        trainer.close()
    trainer.write_weights(folder / job["name"])
    return metrics


if __name__ == "__main__":
    main(Path(sys.argv[1]))
