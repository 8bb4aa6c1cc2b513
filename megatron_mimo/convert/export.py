"""From a complete torch_dist checkpoint to a Hugging Face folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.convert.huggingface import check_absent, check_tokenizer, write_hugging_face
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import megatron_shapes, mimo_ops
from megatron_mimo.convert.model_card import compatibility_notes, model_card
from megatron_mimo.convert.ops import check_shapes, to_hugging_face
from megatron_mimo.convert.shards import MAX_SHARD_BYTES

Progress = Callable[[int, str], None]
"""Called with the number of tensors written so far and the name of the last one."""


@dataclass(frozen=True)
class RunSettings:
    """What of run.json the exported folder depends on."""

    model: ModelConfig
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
    progress: Progress = lambda count, name: None,
) -> list[str]:
    """Write `destination`; returns notes on what inference engines will not do with this model.

    `tokenizer_folder` defaults to the one of the training configuration. Raises UserError, with nothing written, for
    an incomplete or damaged checkpoint, tensors that are not those of the model, a tokenizer that does not fit, or a
    destination that exists.
    """
    check_absent(destination)
    checkpoint = TorchDistCheckpoint(checkpoint_folder)
    settings = read_settings(checkpoint.run, source=str(checkpoint_folder / "run.json"))
    check_shapes(checkpoint.shapes, megatron_shapes(settings.model), str(checkpoint_folder))
    tokenizer = check_tokenizer(tokenizer_folder or settings.tokenizer, settings.model, settings.tokenizer_sha256)
    tensors = to_hugging_face(mimo_ops(settings.model), checkpoint.read)
    write_hugging_face(
        destination,
        settings.model,
        _counted(tensors, progress),
        rotary_base=settings.rotary_base,
        seq_length=settings.seq_length,
        tokenizer=tokenizer,
        model_card=model_card(checkpoint.run, settings.model, settings.stage_name),
        max_shard_bytes=max_shard_bytes,
    )
    return compatibility_notes(settings.model)


def read_settings(run: dict[str, Any], source: str) -> RunSettings:
    """Raise UserError where run.json lacks a key or contradicts itself."""
    try:
        stage = run["config"]["stages"][_last_trained_stage(run)]
        return RunSettings(
            model=from_tree(ModelConfig, run["model"], source),
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


def _counted(tensors: Iterator[tuple[str, Tensor]], progress: Progress) -> Iterator[tuple[str, Tensor]]:
    for count, (name, tensor) in enumerate(tensors, start=1):
        yield name, tensor
        progress(count, name)
