"""One name for one thing: names of earlier versions are read, say the present one, and stand nowhere else."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_mimo.cli.commands import COMMANDS
from megatron_mimo.cli.evaluate import read_config
from megatron_mimo.cli.key_help import config_of, explain
from megatron_mimo.config import RLConfig, UserError, load, load_with_origins
from megatron_mimo.config.describe import dataclasses_in
from megatron_mimo.config.eval import EvaluateConfig
from megatron_mimo.config.load import from_tree
from megatron_mimo.config.notices import say_once
from megatron_mimo.config.renamed import old_names, with_present_key
from megatron_mimo.data.job import load_job

ROOT = Path(__file__).parents[3]
NANO_RL = ROOT / "examples" / "nano" / "rl.yaml"


def config_classes() -> list[Any]:
    found: dict[Any, None] = {}
    for name, command in COMMANDS.items():
        if command.config:
            found |= dataclasses_in(config_of(name))
    return list(found)


def test_present_names_are_settings_and_old_ones_are_not() -> None:
    number = 0
    for config_class in config_classes():
        fields = {field.name for field in dataclasses.fields(config_class)}
        for old, new in old_names(config_class).items():
            number += 1
            assert new in fields and old not in fields
    assert number >= 9


def test_no_setting_has_one_of_the_other_names() -> None:
    others = re.compile(r"(^|_)workers$|^max_tokens$|^max_model_len$|^num_drafts$|limit_seconds$|^verify_seconds$")
    for config_class in config_classes():
        for field in dataclasses.fields(config_class):
            if others.search(field.name):
                assert field.name.startswith("num_") and field.name.endswith("_workers"), (
                    f"{config_class}: {field.name}"
                )


@pytest.fixture(autouse=True)
def unsaid() -> None:
    say_once.cache_clear()


def test_an_old_name_in_the_file_and_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = NANO_RL.read_text().replace("base: model.yaml", f"base: {NANO_RL.parent}/model.yaml")
    path = tmp_path / "old.yaml"
    path.write_text(text.replace("num_math_workers", "math_workers"))
    now = load(RLConfig, [str(NANO_RL)])
    config, layers = load_with_origins(RLConfig, [str(path)])
    assert config == now
    line = 1 + next(i for i, each in enumerate(path.read_text().splitlines()) if "math_workers" in each)
    assert layers.origin("reward.num_math_workers") == f"{path}:{line}"
    for _ in range(2):
        assert load(RLConfig, [str(NANO_RL), "reward.math_workers=3"]).reward.num_math_workers == 3
    said = capsys.readouterr().err.splitlines()
    assert said == ["reward.math_workers is now called reward.num_math_workers"], "once, from file and override alike"


def test_old_names_in_lists_and_both_names_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {"tasks": [{"task": "a"}, {"task": "b", "max_tokens": 7}], "generation": {"max_model_len": 9}}
    config = from_tree(EvaluateConfig, tree, "old.yaml")
    assert (config.tasks[1].max_new_tokens, config.generation.seq_length) == (7, 9)
    assert "tasks.1.max_tokens is now called tasks.1.max_new_tokens" in capsys.readouterr().err
    both = {"tasks": [{"task": "a", "max_tokens": 7, "max_new_tokens": 8}]}
    with pytest.raises(UserError, match=r"tasks\.0\.max_tokens = 7: is the old name of tasks\.0\.max_new_tokens"):
        from_tree(EvaluateConfig, both, "both.yaml")


@pytest.mark.parametrize(
    ("override", "present"),
    [
        ("tasks.0.max_tokens=3", "tasks.0.max_new_tokens=3"),
        ("--generation.num_drafts=2", "generation.num_speculative_tokens=2"),
        ("--seed=1", "--seed=1"),
        ("generation.max_tokens=3", "generation.max_tokens=3"),
        ("nothing", "nothing"),
        ("a.b.c=d=e", "a.b.c=d=e"),
    ],
)
def test_overrides_under_old_names(override: str, present: str) -> None:
    assert with_present_key(EvaluateConfig, override) == present


def test_a_data_job_and_an_evaluation_take_overrides_under_old_names() -> None:
    job = load_job(str(ROOT / "examples" / "nano" / "web.yaml"), ["pipeline.executor.local.workers=3"])
    assert job.pipeline is not None and job.pipeline.executor.local is not None
    assert job.pipeline.executor.local.num_workers == 3
    config = read_config([str(ROOT / "examples" / "nano" / "evaluate.yaml"), "tasks.0.max_tokens=5"])
    assert config.tasks[0].max_new_tokens == 5


def test_help_of_an_old_name_explains_the_present_one() -> None:
    said = explain("rl", "reward.math_limit_seconds")
    assert said.startswith("reward.math_limit_seconds is now called reward.math_timeout_seconds")
    assert "default:  10.0" in said


def test_the_table_of_names_lists_them_all() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    for config_class in config_classes():
        for old in old_names(config_class):
            assert f"`{old}`" in table, old


def test_recipes_use_present_names(capsys: pytest.CaptureFixture[str]) -> None:
    olds = {old for config_class in config_classes() for old in old_names(config_class)}
    for path in [*(ROOT / "examples").rglob("*.yaml"), *(ROOT / "megatron_mimo" / "recipes").rglob("*.yaml")]:
        for event in yaml.scan(path.read_text()) if "$" not in path.read_text() else ():
            assert not (isinstance(event, yaml.ScalarToken) and event.value in olds), f"{path}: {event.value}"
