"""The example configurations load; fine-tuning has the shape of what it starts from."""

import dataclasses
from pathlib import Path

import pytest

from megatron_mimo.config import PretrainConfig, UserError, load

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("folder", ["nano", "mimo_7b"])
def test_mtp_fine_tuning_adds_two_layers_to_the_pretrained_model(folder: str) -> None:
    pretrain = load(PretrainConfig, [str(EXAMPLES / folder / "pretrain.yaml")])
    finetune = load(PretrainConfig, [str(EXAMPLES / folder / "finetune_mtp.yaml")])
    assert finetune.model == dataclasses.replace(pretrain.model, mtp_num_layers=3)
    assert finetune.start is not None
    assert finetune.start.checkpoint == f"{pretrain.output_dir}/checkpoints"
    last, only = pretrain.stages[-1], finetune.stages[0]
    assert (only.rotary_base, only.seq_length, only.mixture) == (last.rotary_base, last.seq_length, last.mixture)


def test_frozen_pipeline_stages_are_refused() -> None:
    path = str(EXAMPLES / "mimo_7b" / "finetune_mtp.yaml")
    with pytest.raises(UserError, match="trains layers of the last stage alone"):
        load(PretrainConfig, [path, "parallel.pipeline_model_parallel_size=2"])
