"""`--help KEY` says what the dataclass says, for every setting of every command, as do schemas and completion."""

import dataclasses
import json

import jsonschema
import pytest
import yaml

from megatron_mimo.cli import main
from megatron_mimo.cli.commands import COMMANDS
from megatron_mimo.cli.completion import candidates
from megatron_mimo.cli.key_help import config_of, explain
from megatron_mimo.cli.schema import text_of
from megatron_mimo.config import ModelConfig, PretrainConfig, RLConfig, SFTConfig, UserError
from megatron_mimo.config.describe import field_texts, settings_of
from support.paths import ROOT

READERS = [name for name, command in COMMANDS.items() if command.config]


@pytest.mark.parametrize("command", READERS)
def test_every_setting_of_every_command_has_help(command: str) -> None:
    settings = list(settings_of(config_of(command)))
    assert len({setting.key for setting in settings}) == len(settings)
    for setting in settings:
        said = explain(command, setting.key)
        assert said.startswith(setting.key) and setting.kind in said
        if setting.default is not None:
            yaml.safe_load(setting.default)


@pytest.mark.parametrize(
    ("command", "key", "parts"),
    [
        ("pretrain", "model.num_layers", ["a whole number", "none, it must be given", "section 2.2"]),
        ("pretrain", "stages.1.tokens", ["stages.*.tokens", "unit:     tokens", "section 2.3"]),
        ("pretrain", "optimizer.adam_beta2", ["default:  0.95", "section 2.3"]),
        (
            "pretrain",
            "guard.hang_timeout_seconds",
            ["default:  600.0", "unit:     seconds", "0 switches the watchdog off"],
        ),
        ("pretrain", "checkpoint.keep_every_tokens", ["a whole number, or null", "default:  null", "unit:     tokens"]),
        ("pretrain", "precision.dtype", ["one of auto, bf16, fp32", "default:  auto"]),
        ("sft", "learning_rate", ["default:  3.0e-05", "section 3.1"]),
        ("rl", "data.easy_pool_alpha", ["default:  0.1", "section 3.3.2"]),
        ("rl", "rollout.samples_per_prompt", ["default:  16"]),
        ("evaluate", "tasks.0.repetitions", ["default:  1"]),
    ],
)
def test_a_setting_in_full(command: str, key: str, parts: list[str]) -> None:
    said = explain(command, key)
    words = " ".join(said.split())
    assert all(" ".join(part.split()) in words for part in parts), said


def test_the_last_part_of_a_key_is_enough_and_a_section_lists_its_keys() -> None:
    assert explain("pretrain", "seq_length").startswith("stages.*.seq_length")
    model = explain("pretrain", "model")
    assert all(f"model.{field.name}" in model for field in dataclasses.fields(ModelConfig))
    keys = explain("pretrain", "keys")
    assert all(setting.key in keys for setting in settings_of(PretrainConfig))


@pytest.mark.parametrize(
    ("key", "meant"), [("model.num_layer", "model.num_layers"), ("seqlength", "stages.*.seq_length")]
)
def test_a_wrong_key_gets_a_hint(key: str, meant: str) -> None:
    with pytest.raises(UserError, match="did you mean") as error:
        explain("pretrain", key)
    assert meant in str(error.value)


def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rl", "--help", "loss.clip_ratio_high"]) == 0
    assert "default:  0.28" in capsys.readouterr().out
    assert main(["rl", "--help", "clip_ratio_hihg"]) == 2
    assert "did you mean loss.clip_ratio_high" in capsys.readouterr().err


def test_texts_are_those_under_the_fields_base_classes_included() -> None:
    assert field_texts(SFTConfig)["output_dir"].startswith("Run folder")
    assert field_texts(RLConfig)["num_steps"] == ""


@pytest.mark.parametrize("command", READERS)
def test_schemas_are_schemas(command: str) -> None:
    schema = json.loads(text_of(command))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"] and schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("command", "recipe"),
    [("pretrain", "pretrain"), ("pretrain", "finetune_mtp"), ("sft", "sft"), ("rl", "rl"), ("evaluate", "evaluate"),
     ("data", "data")],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["nano", "mimo_7b"])
def test_the_recipes_agree_with_the_schemas(command: str, recipe: str, folder: str) -> None:
    tree = yaml.safe_load((ROOT / "examples" / folder / f"{recipe}.yaml").read_text())
    jsonschema.validate(tree, json.loads(text_of(command)))


def test_a_schema_finds_what_the_loader_refuses() -> None:
    schema = json.loads(text_of("pretrain"))
    tree = yaml.safe_load((ROOT / "examples" / "nano" / "pretrain.yaml").read_text())
    for key, value in (("sead", 1), ("seed", "many"), ("precision", {"dtype": "fp16"}), ("stages", [{"tokns": 1}])):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree | {key: value}, schema)


def test_completion_offers_commands_options_files_and_keys() -> None:
    assert candidates(["pre"]) == ["pretrain"]
    assert {"sft", "serve", "schema"} == set(candidates(["s"])) - {"synthesize", "self-distill"}
    assert "--nproc" in candidates(["pretrain", "--np"])
    assert "--verify" in candidates(["export", "--"])
    assert candidates(["pretrain", f"{ROOT}/examples/nano/pret"]) == [f"{ROOT}/examples/nano/pretrain.yaml"]
    assert "model.num_layers=" in candidates(["pretrain", "run.yaml", "model.num"])
    assert "stages.0.tokens=" in candidates(["pretrain", "run.yaml", "stages.0.t"])
    assert candidates(["rl", "--help", "loss.clip"]) == ["loss.clip_ratio_low", "loss.clip_ratio_high"]
    assert candidates(["mixture", ""])[:3] == ["solve", "check", "measure"]
    assert candidates(["no-such-command", ""]) == []
