"""Where an RL run starts from, and what its checkpoints record."""

from dataclasses import asdict, replace
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.platform.environment import package_versions
from megatron_mimo.training.checkpoint_record import CheckpointRecord, StageRecord, read_record
from megatron_mimo.training.start import find_checkpoint, with_lineage


def resolve_start(config: RLConfig) -> RLConfig:
    """start.checkpoint as the one `step_*` folder that it means: found, and its files hashed, once.

    Raises UserError where there is no complete checkpoint.
    """
    path = find_checkpoint(Path(config.start.checkpoint), config.checkpoint.verify_on_load == "sha256")
    return replace(config, start=replace(config.start, checkpoint=str(path)))


def read_start(config: RLConfig) -> CheckpointRecord:
    """What the starting checkpoint says of RoPE base, sequence length and tokenizer; RL continues with them.

    `config` is what `resolve_start` gives. Raises UserError for a checkpoint of low-rank updates.
    """
    path = Path(config.start.checkpoint)
    start = read_record(path)
    if start.lora:
        raise UserError(
            f"start.checkpoint: {path} holds low-rank updates; export it, which merges them, and import that"
        )
    return start


def tokenizer_folder(config: RLConfig, start: CheckpointRecord) -> Path:
    """The configured one, or the one that the starting checkpoint was trained with."""
    return Path(config.data.tokenizer or start.tokenizer_folder)


def policy_record(config: RLConfig, start: CheckpointRecord) -> CheckpointRecord:
    """What is known of the run before its first step: one stage named `rl`, in the shape of the one it started from."""
    shape = start.last_stage
    record = CheckpointRecord(
        name=config.name,
        model=config.model,
        stages=[StageRecord(name="rl", seq_length=shape.seq_length, rotary_base=shape.rotary_base)],
        tokenizer_sha256=start.tokenizer_sha256,
        tokenizer_folder=str(tokenizer_folder(config, start)),
        seed=config.seed,
        dtype=config.precision.dtype,
        start_checkpoint=config.start.checkpoint,
        hugging_face_vocab_size=start.exported_vocab_size,
        layout=asdict(config.parallel) | {"data_parallel_size": config.data_parallel_size},
        versions=package_versions(),
        config=asdict(config),
    )
    return with_lineage(record, config.data.use_chat_template, start)
