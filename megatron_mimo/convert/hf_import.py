"""From a Hugging Face folder to a torch_dist checkpoint of weights that training starts from, in any layout."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.destination import Destination, check_absent, new_folder
from megatron_mimo.convert.huggingface import check_tokenizer
from megatron_mimo.convert.megatron_writer import layer_chunk, write_chunks, write_metadata, write_module_states
from megatron_mimo.convert.mimo import hugging_face_shapes, mimo_ops
from megatron_mimo.convert.ops import check_shapes, to_megatron
from megatron_mimo.convert.progress import Progress, counted, no_progress
from megatron_mimo.convert.safetensors_folder import HuggingFaceFolder
from megatron_mimo.convert.shards import MAX_SHARD_BYTES, Shard, check_finite, format_notes, plan_shards
from megatron_mimo.platform.environment import package_versions
from megatron_mimo.platform.files import write_json
from megatron_mimo.training.checkpoint_record import RUN_FILE, CheckpointRecord, StageRecord, write_record

Say = Callable[[str], None]


def import_checkpoint(
    hugging_face: Path,
    destination: Path,
    tokenizer_folder: Path | None = None,
    *,
    make_vocab_size_divisible_by: int = 1,
    mtp_from: Path | None = None,
    without_mtp: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = no_progress,
    say: Say | None = None,
) -> ModelConfig:
    """Write the checkpoint folder `destination`; returns the model it holds, its vocabulary padded as asked for.

    `tokenizer_folder` defaults to `hugging_face`; the MTP layers are taken from the folder `mtp_from`, or left out
    (`without_mtp`), where the folder's own are lost or unwanted. `say` gets what is changed on the way. Raises
    UserError, with nothing under the final name, for what HuggingFaceFolder refuses, for tensors that are not those of
    the model, values that are not finite, a tokenizer that does not fit, a full disk, and a destination that exists.
    After a kill, the same call keeps the finished files.
    """
    check_absent(destination)
    source = HuggingFaceFolder(hugging_face, mtp_from=mtp_from, without_mtp=without_mtp)
    rows = source.config.model.vocab_size
    model = padded_model(source.config.model, make_vocab_size_divisible_by)
    check_shapes(source.shapes, hugging_face_shapes(model, rows), str(hugging_face))
    tokenizer = tokenizer_folder or hugging_face
    check_tokenizer(tokenizer, source.config.model)
    shards = plan_shards(mimo_ops(model, rows), to_megatron, source.read_meta, max_shard_bytes)
    identity = source.identity | {"vocab_size": model.vocab_size, "max_shard_bytes": max_shard_bytes}
    with new_folder(destination, identity, sum(shard.nbytes for shard in shards)) as unfinished:
        files = _write_weights(unfinished, shards, source, model, progress)
        write_metadata(unfinished.folder, files)
        write_record(unfinished.folder, import_record(source, model, tokenizer))
        _write_checksums(unfinished.folder, files)
    if say is not None:
        stored = {name: source.read_meta(name) for name in source.shapes}
        for note in [*source.notes, *format_notes(stored)]:
            say(note)
    return model


def padded_model(model: ModelConfig, divisor: int) -> ModelConfig:
    """The model with its vocabulary padded to the next multiple of `divisor`."""
    return dataclasses.replace(model, vocab_size=-(-model.vocab_size // divisor) * divisor)


def import_record(source: HuggingFaceFolder, model: ModelConfig, tokenizer: Path) -> CheckpointRecord:
    """Of a checkpoint that no step has been trained from: weights only, no layout, no optimizer."""
    config, folder = source.config, source.folder.resolve()
    stage = StageRecord(name="imported", seq_length=config.seq_length, rotary_base=config.rotary_base)
    return CheckpointRecord(
        name=folder.name,
        model=model,
        stages=[stage],
        tokenizer_sha256=hashlib.sha256((tokenizer / "tokenizer.json").read_bytes()).hexdigest(),
        tokenizer_folder=str(tokenizer.resolve()),
        hugging_face_vocab_size=config.model.vocab_size,
        imported_from=str(folder),
        weights_only=True,
        chat_trained=config.chat_trained,
        thinks=config.thinks,
        generation_config=source.generation_config,
        license=read_license(source.folder),
        versions=package_versions(),
    )


def read_license(folder: Path) -> str:
    """The licence that a folder's card names in its head; `unknown` without one."""
    try:
        head = (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
        return str(yaml.safe_load(head)["license"])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        return "unknown"


def _write_weights(
    unfinished: Destination, shards: list[Shard], source: HuggingFaceFolder, model: ModelConfig, progress: Progress
) -> dict[str, dict[str, Any]]:
    """The `.distcp` files; returns the facts of each."""
    files: dict[str, dict[str, Any]] = {}
    total_bytes, done_bytes = sum(shard.nbytes for shard in shards), 0
    for index, shard in enumerate(shards):
        name = f"__0_{index}.distcp"
        facts = unfinished.finished(name)
        if facts is None:
            tensors = counted(to_megatron(shard.ops, check_finite(source.read)), progress, done_bytes, total_bytes)
            chunks = ((layer_chunk(key, tensor, model.num_layers), tensor) for key, tensor in tensors)
            facts = {}
            with unfinished.file(name, facts) as path:
                facts.update(write_chunks(path, chunks))
        files[name] = facts
        done_bytes += shard.nbytes
    name = f"__0_{len(shards)}.distcp"
    names = [key for shard in shards for key in shard.outputs]
    files[name] = write_module_states(unfinished.folder / name, names, model.num_layers)
    return files


def _write_checksums(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """checksums.json, as training writes it; the weights were hashed while they were written."""
    hashes = {name: facts["sha256"] for name, facts in files.items()}
    for name in (".metadata", "common.pt", "metadata.json", RUN_FILE):
        hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    sizes = {name: (folder / name).stat().st_size for name in hashes}
    write_json(folder / "checksums.json", {name: {"bytes": sizes[name], "sha256": hashes[name]} for name in hashes})
