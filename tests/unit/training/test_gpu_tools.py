"""The GPU check and the GPU benchmark, as far as a machine without a GPU goes."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from megatron_mimo.cli import gpu_check
from megatron_mimo.plan.hardware import find_gpu
from support.scripts import load_script

ROOT = Path(__file__).parents[3]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_script("benchmarks/gpu_pretrain.py")


@without_gpu
def test_both_say_that_there_is_no_gpu(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    check = gpu_check
    for script in (check, bench):
        assert script.main([]) == 2
        assert "no CUDA device is visible" in capsys.readouterr().err


WORKER = """
import sys, time
names = sys.argv[sys.argv.index("--run") + 1].split(",")
print("ready", flush=True)
for name in names:
    if name == "kernels":
        sys.exit("the device is lost")
    if name == "mtp":
        time.sleep(60)
    print('{"passed": true, "summary": "fine", "facts": {}}', flush=True)
"""


def test_check_that_fails_is_a_row_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check whose process dies, and one that hangs: the others run in a new process."""
    monkeypatch.setattr(gpu_check, "worker_command", lambda: [sys.executable, "-S", "-c", WORKER])
    importlib.import_module("megatron_mimo.cli.gpu_checks")  # takes its time before the clock runs
    monkeypatch.setattr(gpu_check, "DRY_RUN_SECONDS", 4)
    arguments = ["--dry-run", "--only", "heads,kernels,lora,mtp", "--json", str(tmp_path / "found.json")]
    assert gpu_check.main(arguments) == 1
    report = json.loads((tmp_path / "found.json").read_text())
    assert not report["ran_on_gpu"] and report["failed"] == ["kernels", "mtp"]
    assert [row["passed"] for row in report["checks"]] == [True, False, True, False]
    assert "the device is lost" in report["checks"][1]["summary"]
    assert "stopped after" in report["checks"][3]["summary"]
    assert "No GPU was used" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "DRY_RUN_SECONDS", 0)
    (row,) = gpu_check.run_checks(["heads"], dry_run=True, start=0.0)
    assert row["passed"] is False and "time was used up" in row["summary"]


def test_time_limits_add_up() -> None:
    """All checks at their limits, and the start of a process, within the eight minutes."""
    from megatron_mimo.cli.gpu_checks import CHECKS

    assert sum(check.limit_seconds for check in CHECKS.values()) + gpu_check.START_SECONDS <= gpu_check.GPU_SECONDS


@without_gpu
def test_a_check_that_raises_ends_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: a real check that passes, and one that breaks."""
    from megatron_mimo.cli import gpu_checks
    from megatron_mimo.gpu_checks.device_finding import Check

    def breaks(on_gpu: bool) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    broken: Any = Check("breaks", "", breaks, 1)  # pyright: ignore[reportArgumentType]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpu_checks.CHECKS, "mtp", broken)
        assert gpu_check.work(["heads", "mtp", "heads"], on_gpu=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ready" and len(lines) == 3
    assert json.loads(lines[1])["passed"] is True
    assert "illegal memory access" in json.loads(lines[2])["summary"]


@without_gpu
def test_plan_claims_no_measurement(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--dry-run"]) == 0
    text = capsys.readouterr().out
    # The full model's FLOPs per token as the planner has them, with the convention.
    assert "54.45 GFLOP per token (causal attention counted half)" in text
    assert "76.79" in text
    assert "14,451 tokens/s a GPU, 744 TFLOP/s (causal attention half)" in text
    rows = [line for line in text.splitlines() if line.startswith(("bf16", "FP8", "megatron-core", "Transformers"))]
    assert len(rows) == 2 * len(bench.CASES)
    assert all(line.endswith((bench.NOT_RUN, "none fits")) for line in rows)


@without_gpu
def test_weight_update_knows_what_travels(capsys: pytest.CaptureFixture[str]) -> None:
    bench = load_script("benchmarks/gpu_weight_update.py")
    assert bench.main(["--dry-run"]) == 0
    text = capsys.readouterr().out
    # MiMo-7B has 7,833,409,536 parameters of 2 bytes.
    assert f"{7_833_409_536 * 2 / 2**30:.2f} GiB" in text
    assert bench.main([]) == 2
    assert "two GPUs are needed" in capsys.readouterr().err


def test_layers_that_fit_are_the_last_ones_that_do(bench: ModuleType) -> None:
    from megatron_mimo.plan.memory import peak_memory

    gpu, case = find_gpu("h100"), bench.CASES["bf16"]
    layers = bench.layers_that_fit(case, "7b", 8192, gpu)
    needs = [peak_memory(bench.workload(case, "7b", 8192, count)).total for count in (layers, layers + 1)]
    assert needs[0] <= gpu.usable_memory_bytes < needs[1]
    assert bench.layers_that_fit(bench.CASES["bf16_whole"], "7b", 32768, gpu) < bench.layers_that_fit(
        case, "7b", 32768, gpu
    )


def test_full_model_is_extrapolated_layer_by_layer(bench: ModuleType) -> None:
    jobs = [bench.Job(case="bf16", size="7b", seq_length=8, num_layers=n, device="cpu") for n in (10, 5)]
    seconds = bench.full_model_seconds(jobs, {"step_seconds": 2 + 10 * 0.3}, {"step_seconds": 2 + 5 * 0.3}, 36)
    assert seconds == pytest.approx(2 + 36 * 0.3)


@without_gpu
@pytest.mark.parametrize("case", ["recipe", "documents", "bf16_full", "stock", "peer"])
def test_measuring_code_runs_on_a_cpu(bench: ModuleType, case: str) -> None:
    """Untrained models of 320 entries, random tokens: the loss is ln 320 whatever runs them."""
    pytest.importorskip("megatron.core")
    found = bench.measure(bench.Job(case=case, size="nano", seq_length=64, num_layers=1, device="cpu"))
    assert found["loss"] == pytest.approx(5.77, abs=0.15)
    assert found["step_seconds"] == pytest.approx(found["backward_seconds"] + found["update_seconds"])
    assert found["step_seconds"] > found["backward_seconds"] > 0


@without_gpu
def test_a_case_that_fails_is_a_row(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object, seconds: float) -> dict:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(bench, "run_apart", fail)
    options = argparse.Namespace(size="nano", layers=None, device="cpu")
    row = bench.measure_case("bf16", 64, options, find_gpu("h100"))
    assert row["error"] == "CUDA out of memory"
    assert "out of memory" in bench.row_text(row)
    row = bench.measure_case("bf16", 64, options, find_gpu("h100"), end=0.0)
    assert row["error"] == "not measured: the time was used up"
