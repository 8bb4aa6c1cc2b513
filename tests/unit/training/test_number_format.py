"""`precision.dtype: auto` becomes bf16 or fp32, with its reason, and a run keeps what it started with."""

from pathlib import Path

import pytest

from megatron_mimo.config import PrecisionConfig, PretrainConfig, RLConfig, SFTConfig, load, to_yaml
from megatron_mimo.config.load import from_tree, read_yaml
from megatron_mimo.training.checkpoint_record import write_record
from megatron_mimo.training.number_format import decided, remarks, with_number_format
from support.records import record

EXAMPLES = Path(__file__).parents[3] / "examples"
RECIPES = {"pretrain": PretrainConfig, "finetune_mtp": PretrainConfig, "sft": SFTConfig, "sft_for_rl": SFTConfig}
RECIPES |= {"rl": RLConfig}


def checkpoint(output_dir: Path, step: int, dtype: str, **facts: object) -> None:
    folder = output_dir / "checkpoints" / f"step_{step:08d}"
    folder.mkdir(parents=True)
    write_record(folder, record(step, 2048 * step, dtype=dtype, **facts))


@pytest.mark.parametrize(("switch", "dtype"), [("0", "fp32"), ("1", "bf16")])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_nano_recipe_follows_the_machine(recipe, switch, dtype, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", switch)
    config = load(RECIPES[recipe], [str(EXAMPLES / "nano" / f"{recipe}.yaml"), f"output_dir={tmp_path}"])
    assert config.precision.dtype == "auto"
    run = with_number_format(config)
    assert run.precision == PrecisionConfig(dtype=dtype, dtype_reason=f"auto: MEGATRON_MIMO_CPU_BF16={switch}")
    assert capsys.readouterr().err == ""
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert from_tree(RECIPES[recipe], read_yaml(tmp_path / "config.yaml"), "config.yaml") == run


def test_mimo_7b_is_trained_in_bf16_whatever_the_machine(monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0")
    for path in (EXAMPLES / "mimo_7b").glob("*.yaml"):
        layer = read_yaml(path)
        precision = layer.get("precision")
        # A layer over another recipe leaves the format to that one.
        assert precision is None or "base" in layer or precision["dtype"] == "bf16", path
    recipe = load(PretrainConfig, [str(EXAMPLES / "mimo_7b/pretrain_fp8.yaml")])
    assert recipe.precision.dtype == "bf16"


@pytest.mark.parametrize(("started", "switch"), [("bf16", "0"), ("fp32", "1")])
def test_a_resumed_run_keeps_its_format_and_says_what_it_would_be(started, switch, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", switch)
    checkpoint(tmp_path, 100, started)
    config = load(PretrainConfig, [str(EXAMPLES / "nano/pretrain.yaml"), f"output_dir={tmp_path}"])
    assert with_number_format(config).precision.dtype == started
    first, *more = capsys.readouterr().err.splitlines()
    other = {"bf16": "fp32", "fp32": "bf16"}[started]
    assert first.startswith(f"precision.dtype={started}, as the run started; this machine would choose {other}: ")
    assert len(more) == (started == "bf16")
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", {"0": "1", "1": "0"}[switch])
    assert with_number_format(config).precision.dtype == started
    assert capsys.readouterr().err == ""


def test_the_newest_checkpoint_with_an_optimizer_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "1")
    checkpoint(tmp_path, 0, "bf16", weights_only=True)
    config = load(PretrainConfig, [str(EXAMPLES / "nano/pretrain.yaml"), f"output_dir={tmp_path}"])
    assert with_number_format(config).precision.dtype_reason == "auto: MEGATRON_MIMO_CPU_BF16=1"
    checkpoint(tmp_path, 10, "bf16")
    checkpoint(tmp_path, 20, "fp32")
    assert with_number_format(config).precision.dtype == "fp32"
    (tmp_path / "checkpoints" / "step_00000020" / "run.json").write_text("{")
    assert with_number_format(config).precision.dtype == "bf16"


def test_only_the_first_rank_speaks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0")
    monkeypatch.setenv("RANK", "1")
    arguments = [str(EXAMPLES / "nano/pretrain.yaml"), f"output_dir={tmp_path}", "precision.dtype=bf16"]
    with_number_format(load(PretrainConfig, arguments))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    with_number_format(load(PretrainConfig, arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: precision.dtype=bf16 (asked for by precision.dtype)")
    assert line.count("GFLOP/s") == 1


def test_another_format_than_before_is_said(monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "1")
    precision = decided(PrecisionConfig(dtype="fp32"), started="bf16")
    (line,) = remarks("fp32", precision, "bf16")
    assert "trained in bf16 so far, and goes on in fp32" in line
    assert remarks("fp32", precision, "fp32") == remarks("fp32", precision, None) == []


def test_fp8_takes_bf16_beside_it_on_any_machine(monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0")
    emulated = PrecisionConfig(backend="torch", fp8_recipe="blockwise", fp8_emulation=True)
    precision = decided(emulated, None)
    assert precision.dtype == "bf16"
    assert "fp8_recipe=blockwise needs bf16" in precision.dtype_reason
