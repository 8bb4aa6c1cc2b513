"""Benchmarks inside of the training loop: the weights of the moment, exported, answer them through vLLM.

It stands between the rooms, for training knows neither conversion nor evaluation: the entry points hand it to the
trainer as a callback.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from megatron_mimo.config import TrainingConfig, UserError
from megatron_mimo.config.eval import TaskScoresConfig
from megatron_mimo.training.callbacks import Callback
from megatron_mimo.training.checkpoint_files import step_folder
from megatron_mimo.training.metrics import ScoreMetrics, StepMetrics
from megatron_mimo.training.run_plan import RunPlan

SaveWeights = Callable[[Path], None]


def task_scores(config: TrainingConfig, save_weights: SaveWeights, shows: Callback) -> list[Callback]:
    """The callback of a run that asks for scores, none for others."""
    scores = config.evaluation.scores
    folder, tokenizer = Path(config.output_dir) / "scores", Path(config.data.tokenizer)
    return [TaskScorer(scores, folder, tokenizer, save_weights, shows)] if scores else []


class TaskScorer(Callback):
    """Scores every `every_tokens` and at the end of the run; on every rank, for all of them hold parts of the weights.

    Rank 0 exports and asks while the others wait; its answers are kept under the folder. A failure is logged and the
    training continues.
    """

    def __init__(
        self, config: TaskScoresConfig, folder: Path, tokenizer: Path, save_weights: SaveWeights, shows: Callback
    ) -> None:
        """`save_weights` writes a checkpoint of the present weights, on all ranks; `shows` gets the scores."""
        self.config, self.folder, self.save_weights, self.shows = config, folder, save_weights, shows
        self.tokenizer = tokenizer

    def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
        self.plan = plan
        self.done = consumed_tokens // self.config.every_tokens

    def on_rollback(self, step: int, consumed_tokens: int) -> None:
        self.done = consumed_tokens // self.config.every_tokens

    def on_step(self, metrics: StepMetrics) -> None:
        due = metrics.consumed_tokens // self.config.every_tokens
        if due > self.done or self.plan.ends_after(metrics.step, metrics.consumed_tokens):
            self.done = due
            self._score(metrics.step, metrics.consumed_tokens)

    def _score(self, step: int, consumed_tokens: int) -> None:
        folder = self.folder / step_folder(step)
        answer: list[dict[str, dict[str, float | None]] | str] = [""]
        try:
            self.save_weights(folder / "weights")
            if dist.get_rank() == 0:
                answer = [self._ask(folder)]
            dist.broadcast_object_list(answer, src=0)
        except UserError as error:  # of the save, and then on every rank
            answer = [str(error)]
        finally:
            if dist.get_rank() == 0:
                shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(answer[0], str):
            self.shows.on_scores(ScoreMetrics(step, consumed_tokens, answer[0]))
        elif dist.get_rank() == 0:
            print(f"no scores after step {step}: {answer[0]}", flush=True)

    def _ask(self, folder: Path) -> dict[str, dict[str, float | None]] | str:
        """The scores, or why there are none: whatever happens, the other ranks must hear of it."""
        from megatron_mimo.convert.export import export_checkpoint
        from megatron_mimo.eval.in_loop import score_folder

        try:
            export_checkpoint(folder / "weights", folder / "hf", self.tokenizer)
            evaluate = dataclasses.replace(self.config.evaluate, model=str(folder / "hf"), output=str(self.folder))
            return score_folder(evaluate, self.config.timeout_seconds)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
