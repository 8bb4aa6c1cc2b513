"""Callbacks against what a reader of their output finds: TensorBoard's own reader, the metrics file, the live line."""

import io
import json
import math
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from megatron_mimo.config import (
    DataConfig,
    LearningRateSegment,
    LoggingConfig,
    ModelConfig,
    PretrainConfig,
    PretrainStageConfig,
)
from megatron_mimo.training.callbacks import (
    Callback,
    Callbacks,
    LiveLine,
    MetricsFile,
    ReportWriter,
    TensorBoardWriter,
    default_callbacks,
)
from megatron_mimo.training.metrics import EvaluationMetrics, StepMetrics
from megatron_mimo.training.run_plan import RunPlan, run_plan

STEP_TOKENS = 1_000


def config(output_dir: Path = Path("run"), **changes) -> PretrainConfig:
    segment = LearningRateSegment(kind="constant", tokens=10 * STEP_TOKENS, start=1e-3, end=1e-3)
    stage = PretrainStageConfig(
        name="stage1",
        tokens=10 * STEP_TOKENS,
        seq_length=100,
        rotary_base=10_000,
        mixture="mixture.yaml",
        learning_rate=[segment],
        global_batch_size=10,
    )
    model = ModelConfig(
        num_layers=1,
        hidden_size=8,
        ffn_hidden_size=8,
        num_attention_heads=2,
        num_query_groups=1,
        kv_channels=4,
        vocab_size=16,
    )
    values = {
        "name": "tiny",
        "output_dir": str(output_dir),
        "model": model,
        "stages": [stage],
        "data": DataConfig(path="d", tokenizer="t"),
    }
    return PretrainConfig(**(values | {"logging": LoggingConfig(every_steps=4)} | changes))


def step(number: int, **changes) -> StepMetrics:
    values = {
        "step": number,
        "consumed_tokens": number * STEP_TOKENS,
        "stage": "stage1",
        "loss": 1 / number,
        "mtp_losses": [2 / number],
        "grad_norm": 1.5,
        "learning_rate": 1.07e-4,
        "global_batch_size": 10,
        "seq_length": 100,
        "rotary_base": 10_000,
        "mtp_loss_scaling_factor": 0.3,
        "step_seconds": 0.5,
        "tokens_per_second": STEP_TOKENS / 0.5,
        "tflops_per_gpu": 0.25,
        "mfu": None,
        "memory_bytes": 2**30,
        "skipped": False,
        "source_losses": {"code": 1.0},
        "source_tokens": {"code": STEP_TOKENS},
    }
    return StepMetrics(**(values | changes))


def plan(**changes) -> RunPlan:
    run = config(**changes)
    return run_plan(run.model, run.stages, run.max_steps)


def live_line(stream: io.StringIO | None = None) -> LiveLine:
    return LiveLine("tiny", Path("run"), 4, stream or io.StringIO())


def show(line: LiveLine, steps: range, **changes) -> list[str]:
    line.on_start(plan(**changes), steps.start - 1, (steps.start - 1) * STEP_TOKENS)
    for number in steps:
        line.on_step(step(number))
    stream = line.stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue().splitlines()


def test_log_gets_a_line_every_so_many_steps_and_at_the_ends():
    lines = show(live_line(), range(1, 11))
    steps = [int(line.split("|")[0].removeprefix("step")) for line in lines[1:]]
    assert steps == [1, 4, 8, 10]


def test_line_names_every_value_and_leaves_out_the_unknown():
    line = show(live_line(), range(1, 5))[-1]
    expected = "4K/10K tokens 40.0 %,loss 0.2500,mtp 0.5000,lr 0.000107,grad 1.5,2K tok/s,0.25 TFLOP/s,1 GiB,ETA 3 s"
    for part in expected.split(","):
        assert part in line
    assert "MFU" not in line
    live = live_line()
    live.on_start(plan(), 0, 0)
    assert "ETA" not in live.line(step(1))
    assert "MFU 41.2 %" in live.line(step(1, mfu=0.412))
    assert "SKIPPED" in live.line(step(1, skipped=True, loss=math.nan))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_sees_the_steps_between_in_place():
    terminal = Terminal()
    show(live_line(terminal), range(1, 4))
    assert terminal.getvalue().count("\n") == 2
    assert "\r\x1b[2Kstep      3" in terminal.getvalue()


def test_metrics_file_forgets_what_a_resumed_run_repeats(tmp_path):
    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    first = MetricsFile(tmp_path)
    first.on_start(plan(), 0, 0)
    for number in range(1, 8):
        first.on_step(step(number))
    resumed = MetricsFile(tmp_path)
    resumed.on_start(plan(), 5, 5 * STEP_TOKENS)
    assert steps() == [1, 2, 3, 4, 5]
    resumed.on_step(step(6))
    resumed.on_rollback(3, 3 * STEP_TOKENS)
    resumed.on_step(step(4))
    assert steps() == [1, 2, 3, 4]


def read_scalars(folder: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def test_tensorboard_draws_by_step_and_by_tokens_and_over_repeated_steps(tmp_path):
    for start, stop, loss in ((0, 6, 1.0), (3, 8, 2.0)):
        writer = TensorBoardWriter(tmp_path)
        writer.on_start(plan(), start, start * STEP_TOKENS)
        for number in range(start + 1, stop + 1):
            writer.on_step(step(number, loss=loss))
        writer.on_end("killed")
    expected = {number: 1.0 if number <= 3 else 2.0 for number in range(1, 9)}
    assert read_scalars(tmp_path / "tensorboard" / "by_step", "loss/main") == expected
    by_tokens = read_scalars(tmp_path / "tensorboard" / "by_tokens", "by_tokens/loss/main")
    assert by_tokens == {number * STEP_TOKENS: loss for number, loss in expected.items()}


def test_tensorboard_keeps_evaluations_by_source_and_depth(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.on_start(plan(), 0, 0)
    writer.on_evaluation(EvaluationMetrics(7, 7_000, {"code": 1.25}, {"code": [1.5, 1.75]}))
    writer.on_end("finished")
    folder = tmp_path / "tensorboard" / "by_step"
    assert read_scalars(folder, "evaluation/code") == {7: 1.25}
    assert read_scalars(folder, "evaluation_mtp_2/code") == {7: 1.75}


def test_report_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    ReportWriter(tmp_path).on_end("finished")
    assert "no report written" in capsys.readouterr().err


def test_every_event_reaches_every_callback_in_order():
    events = [name for name in vars(Callback) if name.startswith("on_")]
    seen = []

    class Recorder(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattribute__(self, attribute: str):
            if attribute in events:
                return lambda *_: seen.append((attribute, self.name))
            return super().__getattribute__(attribute)

    both = Callbacks([Recorder("a"), Recorder("b")])
    arguments = {"on_start": (plan(), 0, 0), "on_rollback": (0, 0)}
    for event in events:
        getattr(both, event)(*arguments.get(event, (None,)))
    assert seen == [(event, name) for event in events for name in "ab"]


def test_only_the_showing_rank_shows(tmp_path):
    assert default_callbacks(config(tmp_path), shows=False).callbacks == []
    assert not (tmp_path / "metrics.jsonl").exists()
    assert len(default_callbacks(config(tmp_path), shows=True).callbacks) == 5
