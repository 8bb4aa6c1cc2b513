"""`megatron-mimo init`: every size loads, has the same keys, and is the recipe that it says it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_mimo.cli import main, plan
from megatron_mimo.cli.commands import COMMANDS, OLD_NAMES
from megatron_mimo.config import PretrainConfig, RLConfig, SFTConfig, load
from megatron_mimo.config.eval import EvaluateConfig
from megatron_mimo.data.job import load_job
from megatron_mimo.data.loading.mixture import read_mixture
from megatron_mimo.recipes.write import FP8, SIZES, recipes
from support.paths import ROOT

KINDS = {
    "pretrain": PretrainConfig,
    "finetune_mtp": PretrainConfig,
    "sft": SFTConfig,
    "rl": RLConfig,
    "evaluate": EvaluateConfig,
}
PUBLISHED = {"nano": "nano", "7b": "mimo_7b"}
"""Size -> the folder of examples/ with the same numbers."""
FLOW = ("reward", "engine", "parallel", "precision", "train", "valid", "sources", "tasks", "batch_ramp")
"""What a size may leave out or list otherwise: machines and files."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {size: tmp_path_factory.mktemp("init") / size for size in SIZES}
    for size, folder in folders.items():
        assert main(["init", size, str(folder)]) == 0
    return folders


@pytest.mark.parametrize("size", SIZES)
def test_every_file_of_every_size_loads(made: dict[str, Path], size: str) -> None:
    folder = made[size]
    for name, kind in KINDS.items():
        load(kind, [str(folder / f"{name}.yaml")])
    job = load_job(str(folder / "data.yaml"), [])
    assert job.tokenize is not None
    sources = {source.name for source in job.tokenize.sources}
    for stage in load(PretrainConfig, [str(folder / "pretrain.yaml")]).stages:
        assert set(read_mixture(folder / stage.mixture).weights) <= sources


def keys(tree: Any) -> Any:
    """The tree with its values left out."""
    if isinstance(tree, dict):
        return {key: keys(value) for key, value in tree.items() if key not in FLOW}
    return [keys(item) for item in tree] if isinstance(tree, list) else None


def test_sizes_differ_in_values_only() -> None:
    texts = {size: recipes(size) for size in SIZES}
    gpu_sizes = [size for size in SIZES if FP8 in texts[size]]
    assert gpu_sizes == list(SIZES[1:]), "nano is for CPUs"
    assert len({tuple(name for name in files if name != FP8) for files in texts.values()}) == 1
    for name in KINDS:
        trees = [keys(yaml.safe_load(texts[size][f"{name}.yaml"])) for size in SIZES]
        assert all(tree == trees[0] for tree in trees), name


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_sizes_of_the_examples_have_their_numbers(made: dict[str, Path], size: str) -> None:
    examples = ROOT / "examples" / PUBLISHED[size]

    def both(name: str, kind: Any) -> tuple[Any, Any]:
        return load(kind, [str(made[size] / f"{name}.yaml")]), load(kind, [str(examples / f"{name}.yaml")])

    for name in ("pretrain", "finetune_mtp"):
        ours, theirs = both(name, PretrainConfig)
        assert ours.model == theirs.model and ours.mtp_loss == theirs.mtp_loss and ours.optimizer == theirs.optimizer
        shown = ("name", "tokens", "seq_length", "rotary_base", "learning_rate", "global_batch_size", "batch_ramp")
        for mine, other in zip(ours.stages, theirs.stages, strict=True):
            assert [getattr(mine, key) for key in shown] == [getattr(other, key) for key in shown]
    ours, theirs = both("sft", SFTConfig)
    for key in ("model", "seq_length", "rotary_base", "global_batch_size", "learning_rate", "mtp_loss_scaling_factor"):
        assert getattr(ours, key) == getattr(theirs, key), key
    ours, theirs = both("rl", RLConfig)
    for key in ("model", "num_steps", "mini_batch_groups", "micro_batch_tokens", "loss", "learning_rate", "optimizer"):
        assert getattr(ours, key) == getattr(theirs, key), key
    for key in ("num_groups", "samples_per_prompt", "generation"):
        assert getattr(ours.rollout, key) == getattr(theirs.rollout, key), key


def test_the_data_of_size_nano_is_that_of_the_quick_start(made: dict[str, Path]) -> None:
    ours = load_job(str(made["nano"] / "data.yaml"), ["output_dir=x"])
    assert ours == load_job(str(ROOT / "examples" / "nano" / "data.yaml"), ["output_dir=x"])


@pytest.mark.parametrize(("size", "parameters"), [("150m", 150e6), ("400m", 400e6), ("1b", 1e9)])
def test_sizes_between_are_as_large_as_they_say_and_take_less_than_a_day(
    made: dict[str, Path], size: str, parameters: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(made[size] / "pretrain.yaml")
    config = load(PretrainConfig, [path])
    report, seven = config.stages, load(PretrainConfig, [str(made["7b"] / "pretrain.yaml")]).stages
    assert plan.main([path, "--gpus", "8", "--gpu", "h100", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    embedding = 2 * config.model.vocab_size * config.model.hidden_size
    assert said["parameters"]["total"] - embedding == pytest.approx(parameters, rel=0.05)
    assert 0.3 < said["configured"]["days"] <= 1
    total, whole = config.total_tokens, sum(stage.tokens for stage in seven)
    for mine, other in zip(report, seven, strict=True):
        assert mine.tokens / total == pytest.approx(other.tokens / whole, rel=0.02), (
            "the report's lengths of the stages"
        )
        assert mine.seq_length * mine.global_batch_size == report[0].seq_length * report[0].global_batch_size


@pytest.mark.parametrize("size", SIZES)
def test_the_commands_of_the_readme_exist(made: dict[str, Path], size: str) -> None:
    text = (made[size] / "README.md").read_text()
    named = re.findall(r"^megatron-mimo ([a-z-]+) ?(\S+\.yaml)?", text, re.MULTILINE)
    assert len(named) >= 9
    for name, file in named:
        assert name in COMMANDS and name not in OLD_NAMES
        assert not file or (made[size] / file).is_file()


def test_a_folder_with_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["init", "nano", str(tmp_path)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_number_is_left_over() -> None:
    """Every value of the table is used by a template, and none is missing."""
    used = "".join(
        path.read_text() for path in (ROOT / "megatron_mimo" / "recipes").rglob("*") if path.suffix in (".md", ".yaml")
    )
    table = yaml.safe_load((ROOT / "megatron_mimo" / "recipes" / "sizes.yaml").read_text())
    unused = [key for key in table["7b"] if f"${key}" not in used and f"${{{key}}}" not in used]
    assert unused == ["gpus"], "gpus is for people"


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_sizes_has_their_numbers(made: dict[str, Path], size: str) -> None:
    config = load(PretrainConfig, [str(made[size] / "pretrain.yaml")])
    (row,) = [line for line in (ROOT / "docs" / "sizes.md").read_text().splitlines() if line.startswith(f"| `{size}` ")]
    shown = [cell.strip() for cell in row.strip("|").split("|")]
    assert shown[1:3] == [f"{config.model.num_layers}", f"{config.model.hidden_size:,}"]
    assert number(shown[4]) == config.total_tokens
    assert shown[5] == f"{config.stages[0].seq_length:,}, {config.stages[-1].seq_length:,}"


def number(text: str) -> int:
    """26.75B -> 26 750 000 000."""
    return round(float(text[:-1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[text[-1]])


@pytest.mark.parametrize("name", ["pretrain.yaml", FP8])
def test_7b_is_cut_and_computed_as_in_the_examples(made: dict[str, Path], name: str) -> None:
    ours, theirs = (load(PretrainConfig, [str(folder / name)]) for folder in (made["7b"], ROOT / "examples/mimo_7b"))
    assert ours.precision == theirs.precision
    assert [ours.layout(stage) for stage in ours.stages] == [theirs.layout(stage) for stage in theirs.stages]


@pytest.mark.parametrize("size", SIZES[1:])
def test_fp8_is_the_same_run_in_other_formats(made: dict[str, Path], size: str) -> None:
    plain, fp8 = (load(PretrainConfig, [str(made[size] / name)]) for name in ("pretrain.yaml", FP8))
    assert (plain.stages, plain.optimizer, plain.mtp_loss) == (fp8.stages, fp8.optimizer, fp8.mtp_loss)
    assert plain.output_dir != fp8.output_dir
    assert (plain.precision.fp8_recipe, fp8.precision.fp8_recipe) == ("none", "tensorwise")
