"""Train the same run in several layouts inside one torchrun: JSON in (argument 1), losses of every step out (2)."""

import json
import os
import sys
from pathlib import Path

from support.tiny import tiny_config


def main(jobs_path: Path, results_path: Path) -> None:
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.distributed import distributed, is_reporting_rank
    from megatron_mimo.training.metrics import StepMetrics
    from megatron_mimo.training.trainer import Trainer

    class Collector(Callback):
        def __init__(self) -> None:
            self.steps: list[StepMetrics] = []

        def on_step(self, metrics: StepMetrics) -> None:
            self.steps.append(metrics)

    results = {}
    for name, job in json.loads(jobs_path.read_text()).items():
        config = tiny_config(job["tree"])
        with distributed(config):
            collector = Collector()
            Trainer(config, Path(job["folder"]), collector).fit()
            if is_reporting_rank():
                results[name] = [
                    {"step": m.step, "losses": [m.loss, *m.mtp_losses], "grad_norm": m.grad_norm}
                    for m in collector.steps
                ]
    # The rank that holds a layout's losses is the one with its last pipeline stage, so each writes its own part.
    results_path.with_name(f"{results_path.name}.rank{os.environ['RANK']}").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
