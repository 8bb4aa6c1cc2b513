"""Settings that train nothing, or something else than one thinks, are refused when the configuration is read."""

from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, UserError
from support.tiny import tiny_config, tiny_tree


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("optimizer", "clip_grad", -1),
        ("optimizer", "adam_beta1", 1.0),
        ("optimizer", "adam_beta2", 1.5),
        ("optimizer", "adam_beta2", -0.1),
        ("optimizer", "adam_eps", 0),
        ("optimizer", "weight_decay", -1),
        ("model", "init_method_std", 0),
        ("model", "layernorm_epsilon", -1e-5),
        ("guard", "requeue_exit_code", 300),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(section: str, key: str, value: float) -> None:
    tree = tiny_tree(Path("data"), Path("run"))
    tree.setdefault(section, {})[key] = value
    with pytest.raises(UserError, match=rf"{section}\.{key} = {value}"):
        tiny_config(tree)


@pytest.mark.parametrize("end", ["start", "end"])
def test_a_negative_learning_rate_is_refused(end: str) -> None:
    tree = tiny_tree(Path("data"), Path("run"))
    tree["stages"][0]["learning_rate"][0][end] = -1e-4
    with pytest.raises(UserError, match=rf"learning_rate\.{end} = -0\.0001"):
        tiny_config(tree)


def test_the_edges_that_mean_something_pass() -> None:
    tree = tiny_tree(Path("data"), Path("run"))
    tree["optimizer"] = {"clip_grad": 0, "weight_decay": 0, "adam_beta1": 0}
    assert tiny_config(tree).optimizer.clip_grad == 0


def interleaved(stage: int, **settings: Any) -> dict[str, Any]:
    tree = tiny_tree(Path("data"), Path("run"))
    tree["parallel"] = {"pipeline_model_parallel_size": 2, "virtual_pipeline_model_parallel_size": 2}
    tree["stages"][stage] |= settings
    return tree


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (1, {"global_batch_size": 3}),
        (1, {"global_batch_size": 1}),
        (0, {"batch_ramp": {"start": 2, "increment": 2, "tokens": 1024}}),
    ],
)
def test_a_batch_of_a_later_stage_that_a_schedule_cannot_run_is_refused(stage: int, settings: dict[str, Any]) -> None:
    """The interleaved schedule wants groups of micro-batches: found at the start, not when the stage comes."""
    tiny_config(interleaved(stage)).check_world_size(2)
    with pytest.raises(ConfigError, match="multiple of micro_batch_size x"):
        tiny_config(interleaved(stage, **settings)).check_world_size(2)


def test_emulated_fp8_needs_torch_layers() -> None:
    tree = tiny_tree(Path("data"), Path("run"))
    tree["precision"] = {"dtype": "bf16", "fp8_recipe": "delayed", "fp8_emulation": True}
    assert tiny_config(tree).precision.fp8_emulation
    tree["precision"]["backend"] = "transformer_engine"
    with pytest.raises(UserError, match=r"needs precision\.backend=torch"):
        tiny_config(tree)
