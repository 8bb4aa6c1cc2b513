"""The example configurations load, with the values that they had before they shared files; shapes fit each other."""

import dataclasses
import os
from pathlib import Path

import pytest
import yaml

from megatron_mimo.config import PretrainConfig, RLConfig, SFTConfig, UserError, load
from megatron_mimo.config.layers import read_merged
from megatron_mimo.config.load import from_tree

EXAMPLES = Path(__file__).parents[3] / "examples"
GOLDEN = Path(__file__).parents[2] / "golden" / "recipes.yaml"
KINDS = {
    "pretrain": PretrainConfig,
    "pretrain_fp8": PretrainConfig,
    "finetune_mtp": PretrainConfig,
    "sft": SFTConfig,
    "sft_for_rl": SFTConfig,
    "rl": RLConfig,
    "rl_zero": RLConfig,
}
RECORDED = yaml.safe_load(GOLDEN.read_text())


@pytest.mark.parametrize("recipe", RECORDED)
def test_recipes_have_the_values_that_they_had(recipe: str) -> None:
    """In the golden file each recipe stands whole: no base, nothing shared."""
    path, kind = EXAMPLES / f"{recipe}.yaml", KINDS[recipe.partition("/")[2]]
    if os.environ.get("UPDATE_GOLDEN"):
        RECORDED[recipe] = read_merged(path)
        lines = GOLDEN.read_text().splitlines(keepends=True)
        head = "".join(line for line in lines if line.startswith("#"))
        GOLDEN.write_text(head + yaml.safe_dump(RECORDED, sort_keys=False, default_flow_style=None, width=110))
    assert load(kind, [str(path)]) == from_tree(kind, RECORDED[recipe], "golden")


@pytest.mark.parametrize("folder", ["nano", "mimo_7b"])
def test_the_shape_stands_in_one_file(folder: str) -> None:
    shape = yaml.safe_load((EXAMPLES / folder / "model.yaml").read_text())["model"]
    assert set(shape) >= {"num_layers", "hidden_size", "vocab_size"}
    for path in (EXAMPLES / folder).glob("*.yaml"):
        if path.name != "model.yaml":
            own = yaml.safe_load(path.read_text()).get("model", {})
            drafts = {"mtp_num_layers", "mtp_recursive_steps"}
            assert not isinstance(own, dict) or set(own) <= drafts, f"{path} repeats the shape"


@pytest.mark.parametrize("folder", ["nano", "mimo_7b"])
def test_mtp_fine_tuning_adds_two_layers_to_the_pretrained_model(folder: str) -> None:
    pretrain = load(PretrainConfig, [str(EXAMPLES / folder / "pretrain.yaml")])
    finetune = load(PretrainConfig, [str(EXAMPLES / folder / "finetune_mtp.yaml")])
    assert finetune.model == dataclasses.replace(pretrain.model, mtp_num_layers=3)
    assert finetune.start is not None
    assert finetune.start.checkpoint == f"{pretrain.output_dir}/checkpoints"
    last, only = pretrain.stages[-1], finetune.stages[0]
    assert (only.rotary_base, only.seq_length, only.mixture) == (last.rotary_base, last.seq_length, last.mixture)


@pytest.mark.parametrize("folder", ["nano", "mimo_7b"])
def test_the_recursive_form_trains_the_models_own_layer(folder: str) -> None:
    kind = PretrainConfig if folder == "nano" else SFTConfig
    pretrain = load(PretrainConfig, [str(EXAMPLES / folder / "pretrain.yaml")])
    finetune = load(kind, [str(EXAMPLES / folder / "finetune_mtp_recursive.yaml")])
    assert finetune.model == dataclasses.replace(pretrain.model, mtp_recursive_steps=3)
    assert finetune.start is not None and finetune.start.train == "mtp_layers"
    assert finetune.mtp_step_decay == 0.6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("parallel.context_parallel_size=2", "context_parallel_size.*recursive"),
        ("parallel={tensor_model_parallel_size: 2, sequence_parallel: true}", "sequence_parallel.*recursive"),
        ("parallel.recompute=full", "recompute.*recursive"),
        ("mtp_step_decay=0", "mtp_step_decay"),
        ("model.mtp_num_layers=2", "mtp_num_layers=1"),
    ],
)
def test_what_recursive_drafts_are_not_trained_with_is_refused(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(PretrainConfig, [str(EXAMPLES / "nano" / "finetune_mtp_recursive.yaml"), override])


def test_frozen_pipeline_stages_are_refused() -> None:
    path = str(EXAMPLES / "mimo_7b" / "finetune_mtp.yaml")
    with pytest.raises(UserError, match="trains only layers of the last stage"):
        load(PretrainConfig, [path, "parallel.pipeline_model_parallel_size=2"])
