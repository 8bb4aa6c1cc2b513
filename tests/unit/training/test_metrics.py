"""The metrics file: what is written is read back, whatever a crash or a resume does to it."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.training.metrics import EvaluationMetrics, MetricsLog, StepMetrics, read_metrics


def step_metrics(step: int, loss: float = 2.5) -> StepMetrics:
    return StepMetrics(
        step=step, consumed_tokens=step * 1024, stage="stage1", loss=loss, mtp_losses=[2.75], grad_norm=1.5,
        learning_rate=1e-4, global_batch_size=4, seq_length=256, rotary_base=10_000, mtp_loss_scaling_factor=0.3,
        step_seconds=0.125, tokens_per_second=8192.0, tflops_per_gpu=0.5, mfu=None, memory_bytes=1 << 30,
        skipped=False, source_losses={"arithmetic": 1.25, "código": 3.0},
        source_tokens={"arithmetic": 512, "código": 512},
    )  # fmt: skip


EVALUATION = EvaluationMetrics(step=2, consumed_tokens=2048, losses={"prose": 3.5}, mtp_losses={"prose": [3.75]})


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    for metrics in (step_metrics(1), step_metrics(2), EVALUATION, step_metrics(3)):
        log.append(metrics)
    return log


def test_what_is_written_is_read_back(log: MetricsLog) -> None:
    metrics = read_metrics(log.path)
    assert metrics.steps == [step_metrics(1), step_metrics(2), step_metrics(3)]
    assert metrics.evaluations == [EVALUATION]
    assert metrics.torn_lines == 0


def test_each_line_is_an_object_with_its_kind(log: MetricsLog) -> None:
    rows = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [row.pop("kind") for row in rows] == ["step", "step", "evaluation", "step"]
    assert rows[0] == dataclasses.asdict(step_metrics(1))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_non_finite_losses_survive(log: MetricsLog, loss: float) -> None:
    log.append(step_metrics(4, loss))
    assert repr(read_metrics(log.path).steps[-1].loss) == repr(loss)


def test_truncate_after_drops_later_steps_and_evaluations(log: MetricsLog) -> None:
    log.truncate_after(1)
    assert read_metrics(log.path).steps == [step_metrics(1)]
    assert read_metrics(log.path).evaluations == []
    log.append(step_metrics(2, loss=9.0))
    assert [step.loss for step in read_metrics(log.path).steps] == [2.5, 9.0]
    assert os.listdir(log.path.parent) == ["metrics.jsonl"]


@pytest.mark.parametrize("lost_bytes", [1, 2, 40, 300])
def test_a_torn_last_line_is_counted_and_the_rest_kept(log: MetricsLog, lost_bytes: int) -> None:
    log.path.write_bytes(log.path.read_bytes()[:-lost_bytes])
    metrics = read_metrics(log.path)
    assert (metrics.torn_lines, metrics.steps) == (1, [step_metrics(1), step_metrics(2)])


def test_going_on_after_a_torn_line_loses_nothing_new(log: MetricsLog) -> None:
    log.path.write_bytes(log.path.read_bytes()[:-40])
    MetricsLog(log.path).append(step_metrics(4))
    metrics = read_metrics(log.path)
    assert (metrics.torn_lines, [step.step for step in metrics.steps]) == (1, [1, 2, 4])
    MetricsLog(log.path).truncate_after(4)
    assert read_metrics(log.path).torn_lines == 0


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: Is a directory"):
        MetricsLog(tmp_path / "metrics.jsonl")


def test_damaged_lines_do_not_keep_a_run_from_going_on(log: MetricsLog, capsys: pytest.CaptureFixture[str]) -> None:
    with log.path.open("a") as file:
        file.write('{"kind": "step", "stex": 2}\n{"step": "three"}\n[]\n\0\0\0\n')
    log.truncate_after(2)
    assert [step.step for step in read_metrics(log.path).steps] == [1, 2]
    assert "4 lines were damaged and are left out" in capsys.readouterr().err


def test_a_multibyte_character_cut_in_half_is_a_torn_line(log: MetricsLog) -> None:
    with log.path.open("ab") as file:
        file.write('{"kind": "step", "stage": "é'.encode()[:-1])
    assert read_metrics(log.path).torn_lines == 1


def test_an_interrupted_truncation_leaves_the_old_file(log: MetricsLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = log.path.read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"metrics\.jsonl: No space left on device"):
        log.truncate_after(1)
    assert log.path.read_bytes() == before


def test_lines_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal; from pathlib import Path; from megatron_mimo.training.metrics import *\n"
        f"log = MetricsLog(Path({str(path)!r}))\n"
        "for step in range(50): log.append(EvaluationMetrics(step, 0, {}, {}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert [row.step for row in read_metrics(path).evaluations] == list(range(50))


def test_a_missing_file_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.jsonl: No such file"):
        read_metrics(tmp_path / "absent.jsonl")
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"text": "hello"}\n')
    with pytest.raises(UserError, match=r"foreign\.jsonl, line 1: not a line of metrics"):
        read_metrics(foreign)
