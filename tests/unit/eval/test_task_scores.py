"""When benchmarks are asked inside of training, what becomes of the answers, and that a failure stops nothing."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from megatron_mimo.config import ConfigError, PretrainConfig, UserError, load, to_yaml
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig, TaskScoresConfig
from megatron_mimo.convert import export
from megatron_mimo.eval import in_loop
from megatron_mimo.eval.task_scores import TaskScorer, task_scores
from megatron_mimo.training.callbacks import Callback, default_callbacks
from megatron_mimo.training.metrics import ScoreMetrics, StepMetrics, read_metrics
from megatron_mimo.training.run_plan import RunPlan, run_plan
from support.tiny import tiny_config, tiny_tree

STEP_TOKENS = 512
FOUND = {
    "score": 0.25,
    "low": 0.125,
    "high": 0.375,
    "truncated": 0.0,
    "without_answer": 0.5,
    "in_format": 0.5,
    "mean_tokens": 7.0,
}
ASKED = EvaluateConfig(tasks=[TaskConfig(task="questions")])


def step(number: int) -> StepMetrics:
    values = dict.fromkeys(("loss", "grad_norm", "learning_rate", "step_seconds", "tokens_per_second"), 1.0)
    counts: dict[str, Any] = dict.fromkeys(("global_batch_size", "seq_length", "rotary_base", "memory_bytes"), 1)
    counts |= {"tflops_per_gpu": 0.0, "mfu": None, "skipped": False, "mtp_loss_scaling_factor": 0.1}
    return StepMetrics(
        step=number,
        consumed_tokens=number * STEP_TOKENS,
        stage="stage1",
        mtp_losses=[],
        source_losses={},
        source_tokens={"prose": STEP_TOKENS},
        **values,
        **counts,
    )


def run_config(tmp_path: Path, every_tokens: int) -> PretrainConfig:
    config = tiny_config(tiny_tree(tmp_path / "data", tmp_path / "run", steps=20))
    config.evaluation.scores = TaskScoresConfig(every_tokens=every_tokens, timeout_seconds=60, evaluate=ASKED)
    return config


def plan(config: PretrainConfig) -> RunPlan:
    return run_plan(config.model, config.stages, config.max_steps)


class Shown(Callback):
    def __init__(self) -> None:
        self.scores: list[ScoreMetrics] = []

    def on_scores(self, metrics: ScoreMetrics) -> None:
        self.scores.append(metrics)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[EvaluateConfig]:
    """One process without a group, an export and an evaluation that only note what they were asked."""
    asked: list[EvaluateConfig] = []

    def score_folder(config: EvaluateConfig, limit_seconds: float) -> dict:
        asked.append(config)
        return {"questions": FOUND}

    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda objects, src: None)
    monkeypatch.setattr(export, "export_checkpoint", lambda *_: [])
    monkeypatch.setattr(in_loop, "score_folder", score_folder)
    return asked


def steps_scored(scorer: Callback, config: PretrainConfig, steps: range) -> None:
    scorer.on_start(plan(config), steps.start - 1, (steps.start - 1) * STEP_TOKENS)
    for number in steps:
        scorer.on_step(step(number))


@pytest.mark.parametrize(
    ("every_steps", "first", "wanted"), [(6, 1, [6, 12, 18, 20]), (2.5, 11, [13, 15, 18, 20]), (100, 1, [20])]
)
def test_scores_come_after_every_so_many_tokens_and_at_the_end(
    tmp_path: Path, scored: list, every_steps: float, first: int, wanted: list[int]
) -> None:
    config, shown, saved = run_config(tmp_path, int(every_steps * STEP_TOKENS)), Shown(), []
    steps_scored(*task_scores(config, saved.append, shown), config, range(first, 21))
    assert [metrics.step for metrics in shown.scores] == wanted
    assert [folder.parent.name for folder in saved] == [f"step_{number:08d}" for number in wanted]
    assert {asked.output for asked in scored} == {str(tmp_path / "run" / "scores")}


def test_a_rollback_is_scored_anew(tmp_path: Path, scored: list) -> None:
    config, shown = run_config(tmp_path, 6 * STEP_TOKENS), Shown()
    (scorer,) = task_scores(config, lambda folder: None, shown)
    steps_scored(scorer, config, range(1, 9))
    scorer.on_rollback(4, 4 * STEP_TOKENS)
    for number in range(5, 9):
        scorer.on_step(step(number))
    assert [metrics.step for metrics in shown.scores] == [6, 6]


def test_a_failure_is_told_and_ends_nothing(
    tmp_path: Path, scored: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    config, shown = run_config(tmp_path, 6 * STEP_TOKENS), Shown()

    def full_disk(folder: Path) -> None:
        raise UserError("no room for the weights")

    steps_scored(TaskScorer(config.evaluation.scores, tmp_path, tmp_path, full_disk, shown), config, range(1, 7))
    monkeypatch.setattr(in_loop, "score_folder", lambda *_: 1 / 0)
    again = TaskScorer(config.evaluation.scores, tmp_path, tmp_path, lambda folder: None, shown)
    steps_scored(again, config, range(1, 7))
    told = capsys.readouterr().out
    assert "no scores after step 6: no room for the weights" in told and "ZeroDivisionError" in told
    assert not shown.scores


def test_scores_reach_the_log_the_metrics_tensorboard_and_the_report(
    tmp_path: Path, scored: list, capsys: pytest.CaptureFixture
) -> None:
    config = run_config(tmp_path, 10 * STEP_TOKENS)
    output = Path(config.output_dir)
    shows = default_callbacks(config, shows=True)
    output.mkdir(exist_ok=True)
    (output / "config.yaml").write_text(to_yaml(config))
    (output / "command.txt").write_text("python -m megatron_mimo.pretrain\n")
    (output / "environment.json").write_text("{}")
    shows.on_start(plan(config), 0, 0)
    (scorer,) = task_scores(config, lambda folder: None, shows)
    scorer.on_start(plan(config), 0, 0)
    for number in range(1, 21):
        shows.on_step(step(number))
        scorer.on_step(step(number))
    shows.on_end("finished")
    told = capsys.readouterr()
    assert "scores after step 10: questions 25.0 % (12.5 to 37.5)" in told.out and not told.err
    scores = read_metrics(output / "metrics.jsonl").scores
    assert [(row.step, row.tasks) for row in scores] == [(10, {"questions": FOUND}), (20, {"questions": FOUND})]
    events = EventAccumulator(str(output / "tensorboard" / "by_step")).Reload().Scalars("scores_score/questions")
    assert [(event.step, event.value) for event in events] == [(10, 0.25), (20, 0.25)]
    report = (output / "report.html").read_text()
    assert "Benchmarks during the run" in report and "12.5" in report


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one task"):
        TaskScoresConfig(every_tokens=1, evaluate=EvaluateConfig())
    with pytest.raises(ConfigError, match="it is the run's"):
        TaskScoresConfig(every_tokens=1, evaluate=EvaluateConfig(model="folder", tasks=ASKED.tasks))
    path = Path(__file__).parents[3] / "examples" / "nano" / "pretrain.yaml"
    scores = "evaluation.scores={every_tokens: 1, timeout_seconds: 300, evaluate: {tasks: [{task: questions}]}}"
    with pytest.raises(UserError, match="hang_timeout_seconds"):
        load(PretrainConfig, [str(path), scores])


def test_an_evaluation_that_fails_is_quoted() -> None:
    with pytest.raises(UserError, match="no model"):
        in_loop.score_folder(ASKED, limit_seconds=60)


def test_an_evaluation_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, alive = tmp_path / "hangs", tmp_path / "alive"
    program.write_text(f"#!/bin/sh\n(while true; do echo >> {alive}; sleep 0.05; done) &\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(in_loop.sys, "executable", str(program))
    with pytest.raises(UserError, match="longer than 0.5 s"):
        in_loop.score_folder(ASKED, limit_seconds=0.5)
    size = alive.stat().st_size
    time.sleep(0.3)
    assert alive.stat().st_size == size


def test_the_child_does_not_join_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("KEPT", "yes")
    found = in_loop.environment()
    assert found["KEPT"] == "yes" and not {name for name in found if name.startswith(("RANK", "MASTER_", "TORCHEL"))}
