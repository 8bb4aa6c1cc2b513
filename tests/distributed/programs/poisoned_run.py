"""Train the tiny run and turn a weight into NaN once, after step 10: policy in (argument 1), losses and events out."""

import json
import sys
from pathlib import Path
from typing import Any

from support.tiny import tiny_config


def main(tree: dict[str, Any], folder: Path, results_path: Path) -> None:
    import torch

    from megatron_mimo.config import UserError
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.distributed import distributed
    from megatron_mimo.training.metrics import StepMetrics
    from megatron_mimo.training.trainer import Trainer
    from megatron_mimo.training.training_data import PretrainingData

    class Poisoner(Callback):
        trainer: Trainer

        def __init__(self) -> None:
            self.steps: list[dict[str, Any]] = []
            self.rollbacks: list[int] = []
            self.armed = True

        def on_step(self, metrics: StepMetrics) -> None:
            self.steps.append({"step": metrics.step, "loss": metrics.loss, "skipped": metrics.skipped})
            weight = self.trainer.chunks[0].module.final_layernorm.weight
            if metrics.step == 10 and self.armed:
                self.armed, self.saved = False, weight.detach().clone()
                with torch.no_grad():
                    weight[0] = float("nan")
            elif metrics.skipped:
                with torch.no_grad():
                    weight.copy_(self.saved)

        def on_rollback(self, step: int, consumed_tokens: int) -> None:
            self.rollbacks.append(step)
            self.steps = self.steps[:step]

    config = tiny_config(tree)
    poisoner, stopped = Poisoner(), ""
    with distributed(config):
        poisoner.trainer = Trainer(config, PretrainingData(config, folder), poisoner)
        try:
            poisoner.trainer.fit()
        except UserError as error:
            stopped = str(error)
    results_path.write_text(json.dumps({"steps": poisoner.steps, "rollbacks": poisoner.rollbacks, "stopped": stopped}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
