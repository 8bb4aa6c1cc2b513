"""`base: FILE`, and the place that each value came from; `model: {from: CHECKPOINT}`."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_mimo.config import PretrainConfig, RLConfig, SFTConfig, UserError, load, load_with_origins, to_yaml
from megatron_mimo.config.explain import DECIDED, DEFAULT, explained_yaml
from megatron_mimo.config.layers import read_layers, read_merged

EXAMPLES = Path(__file__).parents[3] / "examples"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def naive(base: Any, own: Any) -> Any:
    """The rule written down once more: mappings are merged, everything else is replaced."""
    if not (isinstance(base, dict) and isinstance(own, dict) and own):
        return own
    return {**base, **{key: naive(base.get(key), value) if key in base else value for key, value in own.items()}}


def test_a_file_stands_on_its_base(tmp_path: Path) -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2, 3], "c": "text", "e": {"k": 1}, "f": {"k": 1}}
    own = {"a": {"y": {"w": 3}}, "b": [9], "d": None, "e": None, "f": {}}
    write(tmp_path / "base.yaml", yaml.safe_dump(base))
    path = write(tmp_path / "own.yaml", yaml.safe_dump({"base": "base.yaml", **own}))
    assert read_merged(path) == naive(base, own)


def test_bases_of_bases_in_other_folders(tmp_path: Path) -> None:
    write(tmp_path / "shapes" / "small.yaml", "model: {num_layers: 2}\nseed: 1\n")
    write(
        tmp_path / "runs" / "first.yaml", "base: ../shapes/small.yaml\nstages: [{mixture: mixtures/a.yaml}]\nseed: 2\n"
    )
    path = write(tmp_path / "mine" / "own.yaml", "base: ../runs/first.yaml\nname: mine\n")
    layers = read_layers(path)
    assert layers.tree["model"] == {"num_layers": 2} and layers.tree["seed"] == 2
    mixture = path.parent / layers.tree["stages"][0]["mixture"]
    assert mixture.resolve() == tmp_path / "runs" / "mixtures" / "a.yaml", (
        "a path stays relative to the file that names it"
    )
    assert layers.origin("seed") == f"{tmp_path}/runs/first.yaml:3"
    assert layers.origin("model.num_layers") == f"{tmp_path}/shapes/small.yaml:1"
    assert layers.origin("name") == f"{path}:2"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.yaml": "base: b.yaml", "b.yaml": "base: a.yaml"}, "base leads back to a file that is being read"),
        ({"a.yaml": "base: a.yaml"}, "base leads back"),
        ({"a.yaml": "base: missing.yaml"}, "cannot read the configuration"),
        ({"a.yaml": "base: [b.yaml]"}, "name one file, relative to"),
        ({"a.yaml": "base: b.yaml", "b.yaml": "- 1"}, "b.yaml must hold a mapping"),
    ],
)
def test_what_cannot_be_a_base(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(UserError, match=said):
        read_layers(tmp_path / "a.yaml")


def test_an_error_in_a_base_names_its_line(tmp_path: Path) -> None:
    shape = (EXAMPLES / "nano" / "model.yaml").read_text().replace("num_layers: 4", "num_layers: four")
    write(tmp_path / "model.yaml", shape)
    path = write(tmp_path / "pretrain.yaml", (EXAMPLES / "nano" / "pretrain.yaml").read_text())
    line = 1 + shape.splitlines().index("  num_layers: four")
    with pytest.raises(UserError) as error:
        load(PretrainConfig, [str(path)])
    assert f"{tmp_path}/model.yaml:{line}" in str(error.value) and "model.num_layers = 'four'" in str(error.value)


def test_overrides_come_last_and_are_named() -> None:
    path = EXAMPLES / "nano" / "sft.yaml"
    words = [str(path), "model.num_layers=2", "lora={rank: 4}", "data.sources.0.path=x.jsonl"]
    config, layers = load_with_origins(SFTConfig, words)
    assert (config.model.num_layers, config.data.sources[0].path) == (2, "x.jsonl")
    assert layers.origin("model.num_layers") == "override model.num_layers=2"
    assert layers.origin("lora.rank") == "override lora={rank: 4}"
    assert layers.origin("lora.alpha") is None
    assert layers.origin("model.hidden_size") == f"{EXAMPLES}/nano/model.yaml:4"


def test_the_explained_configuration_loads_again_and_names_every_place(tmp_path: Path) -> None:
    path = EXAMPLES / "nano" / "finetune_mtp.yaml"
    given, layers = load_with_origins(PretrainConfig, [str(path), "seed=7"])
    resolved, _ = load_with_origins(PretrainConfig, [str(path), "seed=7", "precision.dtype=fp32"])
    text = explained_yaml(given, resolved, layers)
    assert load(PretrainConfig, [str(write(tmp_path / "again.yaml", text))]) == resolved
    places = {line.split(":")[0].strip(): line.partition("# ")[2] for line in text.splitlines() if "# " in line}
    assert places["seed"] == "override seed=7"
    assert places["hidden_size"] == f"{EXAMPLES}/nano/model.yaml:4"
    assert places["mtp_num_layers"].startswith(f"{path}:")
    assert places["adam_eps"] == DEFAULT
    assert places["dtype"] == f"{DECIDED}; given: {path}:" + places["dtype"].rpartition(":")[2]
    values = [line for line in text.splitlines() if not line.rstrip().endswith(":")]
    assert all("# " in line for line in values)


SHAPE = {"num_layers": 6, "hidden_size": 64, "ffn_hidden_size": 96, "num_attention_heads": 4, "num_query_groups": 2,
         "kv_channels": 16, "vocab_size": 256}  # fmt: skip


def with_model(tmp_path: Path, model: str) -> Path:
    text = (EXAMPLES / "nano" / "finetune_mtp.yaml").read_text().replace("base: model.yaml\n", "")
    return write(tmp_path / "run.yaml", text.replace("model: {mtp_num_layers: 3}", model))


def test_the_model_of_a_checkpoint(tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    def model_of(path: str, output_dir: str | None) -> dict[str, Any]:
        asked.append((path, output_dir))
        return dict(SHAPE)

    path = with_model(tmp_path, "model: {from: start.checkpoint, mtp_num_layers: 3}")
    config, layers = load_with_origins(PretrainConfig, [str(path), "start.checkpoint=other/checkpoints"], model_of)
    assert asked == [("other/checkpoints", "runs/nano/finetune_mtp")]
    assert (config.model.num_layers, config.model.mtp_num_layers) == (6, 3)
    assert (layers.origin("model.num_layers") or "").startswith("other/checkpoints, named at ")
    config = load(PretrainConfig, [str(with_model(tmp_path, "model: {from: a/run}"))], model_of)
    assert asked[-1][0] == "a/run" and config.model.mtp_num_layers == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("model: {from: 3}", "name a checkpoint, or start.checkpoint"),
        ("model: {from: a/run, num_layer: 3}", "did you mean model.num_layers"),
    ],
)
def test_a_wrong_model_from(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(PretrainConfig, [str(with_model(tmp_path, model))], lambda path, output_dir: dict(SHAPE))
    with pytest.raises(UserError, match="reads no checkpoint"):
        load(PretrainConfig, [str(with_model(tmp_path, "model: {from: a/run}"))])


def test_a_written_configuration_holds_no_path_of_this_machine() -> None:
    """Of the interpreter above all: another machine that reads it has its own."""
    config = load(RLConfig, [str(EXAMPLES / "nano" / "rl.yaml")])
    assert config.reward.judge.interpreter == sys.executable
    assert sys.prefix not in to_yaml(config)
