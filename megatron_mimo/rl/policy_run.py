"""An RL run as the parts of pre-training see it: start, process groups, checkpoints and export need a stage."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from megatron_mimo.config import DataConfig, PretrainConfig, StageConfig, UserError
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.config.stages import LearningRateSegment
from megatron_mimo.convert.export import RunSettings, read_settings
from megatron_mimo.platform.environment import package_version
from megatron_mimo.training.checkpoint_files import read_run_json
from megatron_mimo.training.start import find_checkpoint, lineage


def resolve_start(config: RLConfig) -> RLConfig:
    """start.checkpoint as the one `step_*` folder that it means: found, and its files hashed, once.

    Raises UserError where there is no complete checkpoint.
    """
    path = find_checkpoint(Path(config.start.checkpoint), config.checkpoint.verify_on_load == "sha256")
    return replace(config, start=replace(config.start, checkpoint=str(path)))


def start_settings(config: RLConfig) -> RunSettings:
    """What the starting checkpoint says of RoPE base, sequence length and tokenizer; RL goes on with them.

    `config` is what `resolve_start` gives. Raises UserError for a checkpoint of low-rank updates.
    """
    path = Path(config.start.checkpoint)
    run = read_run_json(path)
    if run["config"].get("lora"):
        raise UserError(
            f"start.checkpoint: {path} holds low-rank updates; export it, which merges them, and import that"
        )
    return read_settings(run, source=str(path / "run.json"))


def policy_run(config: RLConfig, start: RunSettings) -> PretrainConfig:
    """One stage named `rl` with a constant learning rate; its batch and token counts mean nothing."""
    rate = config.learning_rate
    stage = StageConfig(
        name="rl",
        tokens=1,
        seq_length=start.seq_length,
        rotary_base=start.rotary_base,
        mixture="",
        learning_rate=[LearningRateSegment(kind="constant", tokens=1, start=rate, end=rate)],
        global_batch_size=config.data_parallel_size,
    )
    return PretrainConfig(
        **config.shared_settings(),
        start=config.start,
        stages=[stage],
        data=DataConfig(path="", tokenizer=str(tokenizer_folder(config, start))),
    )


def tokenizer_folder(config: RLConfig, start: RunSettings) -> Path:
    """The configured one, or the one that the starting checkpoint was trained with."""
    return Path(config.data.tokenizer or start.tokenizer)


def run_facts(config: RLConfig, start: RunSettings) -> dict[str, Any]:
    """What a checkpoint's run.json records beside configuration and progress."""
    packages = ("megatron-mimo", "torch", "megatron-core")
    return {
        "versions": {name: package_version(name) for name in packages},
        "tokenizer_sha256": start.tokenizer_sha256,
        "hugging_face_vocab_size": start.hugging_face_vocab_size,
        "data": {},
        **lineage(config.data.use_chat_template, read_run_json(Path(config.start.checkpoint))),
        "layout": asdict(config.parallel) | {"data_parallel_size": config.data_parallel_size},
    }
