"""Train the same run in several layouts inside one torchrun: JSON in (argument 1), losses of every step out (2)."""

import json
import os
import sys
from pathlib import Path

from support.tiny import tiny_config


def main(jobs_path: Path, results_path: Path) -> None:
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state

    from megatron_mimo.platform import cpu
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.distributed import initialize_parallel_groups, is_reporting_rank, seed_everything
    from megatron_mimo.training.metrics import StepMetrics
    from megatron_mimo.training.trainer import Trainer
    from megatron_mimo.training.training_data import PretrainingData

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
        Trainer(config, PretrainingData(config, Path(job["folder"])), collector).fit()
        if is_reporting_rank():
            results[name] = [
                {"step": m.step, "losses": [m.loss, *m.mtp_losses], "grad_norm": m.grad_norm} for m in collector.steps
            ]
        parallel_state.destroy_model_parallel()
    # The rank that holds a layout's losses is the one with its last pipeline stage, so each writes its own part.
    results_path.with_name(f"{results_path.name}.rank{os.environ['RANK']}").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
