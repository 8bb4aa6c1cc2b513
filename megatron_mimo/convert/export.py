"""From a complete torch_dist checkpoint to a Hugging Face folder."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.convert.destination import check_absent
from megatron_mimo.convert.huggingface import FolderSettings, check_tokenizer, convert_to_hugging_face
from megatron_mimo.convert.lora import MergedWeights
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import megatron_shapes, mimo_ops
from megatron_mimo.convert.model_card import CURVE_FILE, compatibility_notes, model_card
from megatron_mimo.convert.ops import check_shapes
from megatron_mimo.convert.progress import Progress, no_progress
from megatron_mimo.convert.run_record import read_run_record
from megatron_mimo.convert.shards import MAX_SHARD_BYTES


@dataclass(frozen=True)
class RunSettings:
    """What of run.json the exported folder depends on."""

    model: ModelConfig
    hugging_face_vocab_size: int
    """Rows to export: fewer than the model's where an import padded the vocabulary."""
    stage_name: str
    """The stage of the last step; RoPE base and sequence length are its own."""
    rotary_base: int
    seq_length: int
    tokenizer: Path
    tokenizer_sha256: str


def export_checkpoint(
    checkpoint_folder: Path,
    destination: Path,
    tokenizer_folder: Path | None = None,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = no_progress,
) -> list[str]:
    """Write `destination`, low-rank updates merged; returns notes on what engines will not do with this model.

    `tokenizer_folder` defaults to the one of the training configuration. Raises UserError, with nothing written, for
    an incomplete or damaged checkpoint, tensors that are not those of the model, a tokenizer that does not fit, a full
    disk, or a destination that exists. After a kill, the same call keeps the finished files.
    """
    check_absent(destination)
    checkpoint = TorchDistCheckpoint(checkpoint_folder)
    settings = read_settings(checkpoint.run, source=str(checkpoint_folder / "run.json"))
    weights = MergedWeights(checkpoint)
    check_shapes(weights.shapes, megatron_shapes(settings.model), str(checkpoint_folder))
    record = read_run_record(checkpoint_folder, checkpoint.run["step"])
    tokenizer = check_tokenizer(tokenizer_folder or settings.tokenizer, settings.model, settings.tokenizer_sha256)
    convert_to_hugging_face(
        destination,
        FolderSettings(
            model=dataclasses.replace(settings.model, vocab_size=settings.hugging_face_vocab_size),
            rotary_base=settings.rotary_base,
            seq_length=settings.seq_length,
            tokenizer=tokenizer,
            record=_record(checkpoint.run),
            model_card=model_card(checkpoint.run, settings.model, settings.stage_name, record),
            pictures={CURVE_FILE: record.curve} if record.curve else {},
        ),
        mimo_ops(settings.model, settings.hugging_face_vocab_size),
        weights,
        max_shard_bytes=max_shard_bytes,
        progress=progress,
    )
    return compatibility_notes(settings.model)


def _record(run: dict[str, Any]) -> dict[str, Any]:
    """What config.json says of the training: nothing that nobody knows."""
    steps = None if "imported_from" in run else run["step"]
    record = {"chat_trained": run.get("chat_trained"), "trained_steps": steps}
    return {name: value for name, value in record.items() if value is not None}


def read_settings(run: dict[str, Any], source: str) -> RunSettings:
    """Raise UserError where run.json lacks a key or contradicts itself."""
    try:
        stage = run["config"]["stages"][_last_trained_stage(run)]
        model = from_tree(ModelConfig, run["model"], source)
        return RunSettings(
            model=model,
            hugging_face_vocab_size=run.get("hugging_face_vocab_size", model.vocab_size),
            stage_name=stage["name"],
            rotary_base=stage["rotary_base"],
            seq_length=stage["seq_length"],
            tokenizer=Path(run["config"]["data"]["tokenizer"]),
            tokenizer_sha256=run["tokenizer_sha256"],
        )
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{source} is not a run.json of this project: {error!r}") from error


def _last_trained_stage(run: dict[str, Any]) -> int:
    """run.json holds the stage of the NEXT step; at a boundary the model has not seen that stage's RoPE base yet."""
    return run["stage"] - 1 if run["stage"] > 0 and run["samples_in_stage"] == 0 else run["stage"]
