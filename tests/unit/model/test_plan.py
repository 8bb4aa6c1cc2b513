"""`megatron-mimo plan` from the command line's point of view."""

import json
from pathlib import Path

import pytest

from megatron_mimo.cli import plan

ROOT = Path(__file__).parents[3]
MIMO_7B = str(ROOT / "examples" / "mimo_7b" / "pretrain.yaml")


def cut(tensor_model_parallel_size: int) -> list[str]:
    """Overrides for one layout in all stages."""
    sizes = f"{{tensor_model_parallel_size: {tensor_model_parallel_size}, sequence_parallel: true}}"
    return [f"parallel={sizes}", "stages.2.parallel=null"]


def test_json_has_the_built_models_parameters_and_the_best_layouts(capsys: pytest.CaptureFixture) -> None:
    assert plan.main([MIMO_7B, *cut(2), "--gpus", "256", "--gpu", "h100", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == {"total": 7_833_409_536, "main": 7_622_619_136, "mtp": 210_790_400}
    assert report["tokens"] == 23_784_000_000_000
    assert report["configured"]["fits"] is False
    assert report["best"][0]["fits"] is True
    assert report["best"][0]["days"] == pytest.approx(sum(stage["days"] for stage in report["best"][0]["stages"]))


def test_text_names_every_part_and_overrides_apply(capsys: pytest.CaptureFixture) -> None:
    arguments = [MIMO_7B, *cut(4), "--gpus", "256", "--mfu", "0.4"]
    assert plan.main(arguments) == 0
    text = capsys.readouterr().out
    assert "7,833,409,536" in text and "not to the 25T" in text and "MFU 0.4 before" in text
    assert "Configured layout: TP4+SP PP1 CP1 DP64" in text and "days, fits" in text
    for name in ("activations", "logits", "all-gather + reduce-scatter", "tokens/s/GPU", "Layouts left out"):
        assert name in text


def test_layout_that_cannot_run_is_explained_beside_those_that_can(capsys: pytest.CaptureFixture) -> None:
    assert plan.main([MIMO_7B, *cut(2), "--gpus", "512"]) == 0
    text = capsys.readouterr().out
    assert "cannot run on 512 GPUs" in text and "global_batch_size = 640" in text
    assert "TP4+SP PP1 CP1 DP128" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "8", "--gpu", "v100"], "choose one of h100"),
        (["--gpus", "0"], "--gpus = 0: must be at least 1"),
        (["--gpus", "8", "--mfu", "45"], "between 0 and 1"),
        (["model.num_layer=3", "--gpus", "8"], "did you mean model.num_layers?"),
        (["precision.fp8_recipe=delayed", "--gpus", "8", "--gpu", "a100"], "has no FP8"),
        (["--gpus", "8", "precision.fp8_parameters=true"], "needs a precision.fp8_recipe"),
        (["--gpus", "8", "--offload-optimizer", "2"], "is a share"),
        (["--gpus", "8", "--gpu", "memory_gib=40"], "bf16_tflops"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture, arguments, message: str) -> None:
    assert plan.main([MIMO_7B, *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and printed.out == ""


def test_device_of_ones_own_and_what_other_trainers_do(capsys: pytest.CaptureFixture) -> None:
    figures = "memory_gib=95,bf16_tflops=148,fp8_tflops=296,link_gb_per_second=450,network_gb_per_second=50,name=Card"
    arguments = [MIMO_7B, *cut(4), "--gpus", "256", "--gpu", figures]
    assert plan.main([*arguments, "--offload-optimizer", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "256 x Card" in text and "50% of the optimizer's state on the host" in text
    assert "host, at a save" in text
