"""Start from another run's weights: fine-tuning, and the MTP layers that only inference needs (report section 3.2).

The pre-trained MTP layer is copied to the further ones, and these are trained with everything else frozen.
"""

import re
from dataclasses import replace
from pathlib import Path

from megatron_mimo.config import ConfigError, ModelConfig, StageConfig, StartConfig, UserError
from megatron_mimo.model.gpt import MTPGPTModel
from megatron_mimo.training.checkpoint import check_same_model, load_weights
from megatron_mimo.training.checkpoint_files import complete_checkpoints, damage
from megatron_mimo.training.checkpoint_record import RUN_FILE, CheckpointRecord, read_record

MTP_LAYER = re.compile(r"mtp\.layers\.(\d+)\.")


def start_from(
    chunks: list[MTPGPTModel],
    model: ModelConfig,
    start: StartConfig,
    hash_files: bool,
    own: CheckpointRecord | None = None,
) -> int:
    """Load the weights of `start.checkpoint`, from any layout, and freeze what `start.train` leaves alone.

    MTP layers that the checkpoint does not have become copies of its last one; returns how many it has.
    `own`: of the run's own checkpoint that it resumes from, which brings all weights: `start.checkpoint` may be gone by
    then. Raises UserError when the checkpoint holds another architecture.
    """
    saved_layers = own.start_mtp_layers if own else None
    if saved_layers is None and (own is None or start.train != "all"):
        path = find_checkpoint(Path(start.checkpoint), hash_files)
        saved_layers = check_start(path, read_record(path).model, model, start)
        if own is None:
            load_weights(path, chunks, lambda name: not is_new(name, saved_layers))
            for chunk in chunks:
                _copy_last_mtp_layer(chunk, saved_layers)
    if saved_layers is None:
        return model.mtp_num_layers
    if start.train != "all":
        new_only = start.train == "new_mtp_layers"
        for chunk in chunks:
            for name, parameter in chunk.named_parameters():
                parameter.requires_grad_(is_new(name, saved_layers if new_only else 0))
    return saved_layers


def find_checkpoint(path: Path, hash_files: bool) -> Path:
    """A `step_*` folder itself, or the newest good one of a folder of checkpoints."""
    if (path / RUN_FILE).is_file():
        problem = damage(path, hash_files)
        if problem is not None:
            raise UserError(f"start.checkpoint: {path} is damaged: {problem}; take another one")
        return path
    found = complete_checkpoints(path, hash_files)
    if not found:
        raise UserError(f"start.checkpoint: {path} holds no complete checkpoint; name a run's checkpoints folder")
    return found[-1]


def check_start(path: Path, saved: ModelConfig, model: ModelConfig, start: StartConfig) -> int:
    """The checkpoint's number of MTP layers; raises UserError where it cannot become `model`."""
    saved_layers, wanted = saved.mtp_num_layers, model.mtp_num_layers
    # Of the same weights another number of drafts can be made.
    same = replace(model, mtp_num_layers=saved_layers, mtp_recursive_steps=saved.mtp_recursive_steps)
    check_same_model(path, saved, same)
    if saved_layers > wanted or (saved_layers == 0 and wanted > 0):
        raise ConfigError(
            "model.mtp_num_layers", wanted, f"{path} has {saved_layers} MTP layers: they can be kept or copied, no more"
        )
    if start.train == "new_mtp_layers" and saved_layers == wanted:
        raise ConfigError(
            "start.train",
            start.train,
            f"{path} has all {wanted} MTP layers: raise model.mtp_num_layers, or train mtp_layers or all",
        )
    return saved_layers


def is_new(name: str, saved_layers: int) -> bool:
    """Whether a parameter belongs to an MTP layer that the checkpoint does not have."""
    match = MTP_LAYER.match(name)
    return match is not None and int(match.group(1)) >= saved_layers


def start_record(start: StartConfig) -> CheckpointRecord:
    """Of the checkpoint that the weights come from; raises UserError where there is none."""
    return read_record(find_checkpoint(Path(start.checkpoint), hash_files=False))


def start_notes(own: CheckpointRecord, start: StartConfig) -> list[str]:
    """What is to be said of a `start` that is not read, because the run resumes from a checkpoint of its own."""
    if own.start_checkpoint == start.checkpoint:
        return []
    began = f"began from {own.start_checkpoint}" if own.start_checkpoint else "began from random weights"
    return [f"start.checkpoint={start.checkpoint} is not read: this run {began} and has checkpoints of its own"]


def context_notes(first: StageConfig, start: StartConfig, origin: CheckpointRecord, fine_tunes: bool) -> list[str]:
    """What is to be said of the first stage's sequence length and RoPE base beside those of the weights (`origin`).

    Raises ConfigError where weights are fine-tuned with another RoPE base without that being asked for: it would spoil
    them, and nothing would show it.
    """
    notes = []
    base, context = origin.last_stage.rotary_base, origin.context_length
    if first.rotary_base != base:
        if fine_tunes and "rotary_base" not in start.allow:
            raise ConfigError(
                "rotary_base",
                first.rotary_base,
                f"the weights of {start.checkpoint} have RoPE base {base}: set rotary_base={base}, or change it on"
                " purpose with start.allow=[rotary_base]",
            )
        notes.append(
            f"RoPE base {first.rotary_base:,}, that of the starting weights is {base:,}: they learn another one"
        )
    elif first.seq_length < context:
        notes.append(
            f"sequences of {first.seq_length:,} tokens; the starting weights are made for {context:,}, which stays so"
        )
    elif first.seq_length > context:
        notes.append(f"sequences of {first.seq_length:,} tokens; the starting weights are made for {context:,}")
    return notes


def with_lineage(record: CheckpointRecord, is_chat: bool, origin: CheckpointRecord | None) -> CheckpointRecord:
    """`record` with what weights keep of those (`origin`) they started from: whether they chat and think, their
    licence, context and RoPE base, the settings of their generation, and which rows of the vocabulary are no padding.

    `chat_trained` is None where nobody knows: they were imported, and their folder did not say it.
    """
    if origin is None:
        return replace(record, chat_trained=is_chat)
    return replace(
        record,
        chat_trained=is_chat or origin.chat_trained,
        thinks=origin.thinks if record.thinks is None else record.thinks,
        license=origin.license,
        start_seq_length=origin.context_length,
        start_rotary_base=origin.last_stage.rotary_base,
        generation_config=origin.generation_config,
        hugging_face_vocab_size=origin.hugging_face_vocab_size or record.hugging_face_vocab_size,
    )


def _copy_last_mtp_layer(chunk: MTPGPTModel, saved_layers: int) -> None:
    if chunk.mtp_process:
        for layer in chunk.mtp.layers[saved_layers:]:
            layer.load_state_dict(chunk.mtp.layers[saved_layers - 1].state_dict())
