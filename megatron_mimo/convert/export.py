"""From a complete torch_dist checkpoint to a Hugging Face folder."""

import dataclasses
from pathlib import Path
from typing import Any

from megatron_mimo.convert.config_json import Form
from megatron_mimo.convert.destination import check_absent
from megatron_mimo.convert.huggingface import FolderSettings, check_tokenizer, convert_to_hugging_face
from megatron_mimo.convert.lora import MergedWeights
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import megatron_shapes, mimo_ops
from megatron_mimo.convert.model_card import CURVE_FILE, compatibility_notes, model_card, plain_notes
from megatron_mimo.convert.ops import check_shapes
from megatron_mimo.convert.progress import Progress, no_progress
from megatron_mimo.convert.run_record import read_run_record
from megatron_mimo.convert.shards import MAX_SHARD_BYTES
from megatron_mimo.training.checkpoint_record import CheckpointRecord


def export_checkpoint(
    checkpoint_folder: Path,
    destination: Path,
    tokenizer_folder: Path | None = None,
    *,
    form: Form = "mimo",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = no_progress,
) -> list[str]:
    """Write `destination`, low-rank updates merged; returns notes on what engines will not do with this model.

    `form` "qwen2" writes the main model alone, as a Qwen2 model. `tokenizer_folder` defaults to the one of the training
    configuration. Raises UserError, with nothing written, for an incomplete or damaged checkpoint, tensors that are not
    those of the model, a tokenizer that does not fit, a full disk, or a destination that exists. After a kill, the same
    call keeps the finished files.
    """
    check_absent(destination)
    checkpoint = TorchDistCheckpoint(checkpoint_folder)
    saved = checkpoint.record
    weights = MergedWeights(checkpoint)
    check_shapes(weights.shapes, megatron_shapes(saved.model), str(checkpoint_folder))
    run = read_run_record(checkpoint_folder, saved.progress.step)
    tokenizer = check_tokenizer(tokenizer_folder or Path(saved.tokenizer_folder), saved.model, saved.tokenizer_sha256)
    model = saved.model if form == "mimo" else saved.model.without_mtp()
    notes = convert_to_hugging_face(
        destination,
        FolderSettings(
            model=dataclasses.replace(model, vocab_size=saved.exported_vocab_size),
            rotary_base=saved.last_stage.rotary_base,
            seq_length=saved.context_length,
            tokenizer=tokenizer,
            record=_training(saved) if form == "mimo" else {},
            model_card=model_card(saved, run, form),
            pictures={CURVE_FILE: run.curve} if run.curve else {},
            generation=saved.generation_config or {},
            keeps_generation=saved.imported_from is not None,
            form=form,
        ),
        mimo_ops(model, saved.exported_vocab_size),
        weights,
        max_shard_bytes=max_shard_bytes,
        progress=progress,
    )
    return notes + _length_notes(saved) + (compatibility_notes(model) if form == "mimo" else plain_notes(saved.model))


def _length_notes(saved: CheckpointRecord) -> list[str]:
    """Where what was trained last is not what the folder says."""
    trained, context = saved.last_stage.seq_length, saved.context_length
    if trained >= context:
        return []
    return [f"the last training saw {trained:,} tokens at a time; max_position_embeddings stays at {context:,}"]


def _training(saved: CheckpointRecord) -> dict[str, Any]:
    """What config.json says of the training: nothing that nobody knows."""
    steps = None if saved.imported_from else saved.progress.step
    known = {"chat_trained": saved.chat_trained, "thinks": saved.thinks, "trained_steps": steps}
    return {name: value for name, value in known.items() if value is not None}
