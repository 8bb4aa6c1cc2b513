"""A Hugging Face folder that Transformers, vLLM and SGLang load as it is."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.convert.config_json import Form, config_json
from megatron_mimo.convert.destination import new_folder
from megatron_mimo.convert.ops import Op, Rename, to_hugging_face
from megatron_mimo.convert.progress import Progress, counted, no_progress
from megatron_mimo.convert.shards import (
    MAX_SHARD_BYTES,
    check_finite,
    format_notes,
    index_json,
    main_dtype,
    plan_shards,
    shard_names,
    write_safetensors,
)
from megatron_mimo.convert.weights import Weights, WeightsInMemory
from megatron_mimo.data.tokens.tokenizer import EOD_TOKEN, TURN_END_TOKEN

REMOTE_CODE_FILES = ("configuration_mimo.py", "modeling_mimo.py")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer folder whose files fit the model."""

    folder: Path
    stop_token_ids: list[int]
    """What ends a text: the tokenizer's own end token, that of its chat template's turns, and last the end-of-document
    token of pre-training."""


@dataclass(frozen=True)
class FolderSettings:
    """What a Hugging Face folder tells beside its weights."""

    model: ModelConfig
    """`vocab_size` is the number of rows written."""
    rotary_base: int
    seq_length: int
    tokenizer: TokenizerFiles
    record: dict[str, Any] = field(default_factory=dict)
    """Entries of config.json on the training: `chat_trained`, whether the weights have learned the chat template, which
    base models carry too, and `trained_steps`. What nobody knows is left out."""
    model_card: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Files that the card shows, by name."""
    generation: dict[str, Any] = field(default_factory=dict)
    """generation_config.json, where the weights came with one; what ends a text is added to it."""
    keeps_generation: bool = False
    """Not even that is added: the weights are as they came."""
    form: Form = "mimo"


def write_hugging_face(
    destination: Path,
    model: ModelConfig,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    rotary_base: int,
    seq_length: int,
    tokenizer: TokenizerFiles,
    record: dict[str, Any] | None = None,
    model_card: str = "",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model held in memory, (Hugging Face name, tensor) pairs, to `destination`, which must not exist yet."""
    weights = WeightsInMemory(dict(tensors))
    ops = [Rename((name,), (name,)) for name in weights.tensors]
    settings = FolderSettings(model, rotary_base, seq_length, tokenizer, record or {}, model_card)
    convert_to_hugging_face(destination, settings, ops, weights, max_shard_bytes=max_shard_bytes)


def convert_to_hugging_face(
    destination: Path,
    settings: FolderSettings,
    ops: Iterable[Op],
    weights: Weights,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = no_progress,
) -> list[str]:
    """Stream `weights` (Megatron names) through `ops` to `destination`, which must not exist yet.

    Holds one operation's tensors in memory. Returns notes on tensors in other number formats than the most. Raises
    UserError, with nothing left, for a value that is not finite and for a failed write.
    """
    shards = plan_shards(ops, to_hugging_face, weights.read_meta, max_shard_bytes)
    total_bytes, done_bytes = sum(shard.nbytes for shard in shards), 0
    outputs = {name: tensor for shard in shards for name, tensor in shard.outputs.items()}
    with new_folder(destination, weights.identity, total_bytes) as unfinished:
        for name, shard in zip(shard_names(len(shards)), shards, strict=True):
            if unfinished.finished(name) is None:
                tensors = to_hugging_face(shard.ops, check_finite(weights.read))
                with unfinished.file(name, {}) as path:
                    write_safetensors(path, shard.outputs, counted(tensors, progress, done_bytes, total_bytes))
            done_bytes += shard.nbytes
        (unfinished.folder / "model.safetensors.index.json").write_text(index_json(shards))
        _write_settings(unfinished.folder, settings, main_dtype(outputs))
    return format_notes(outputs)


def _write_settings(folder: Path, settings: FolderSettings, dtype: torch.dtype) -> None:
    """Every file of the folder but the weights."""
    tokenizer, stops = settings.tokenizer, settings.tokenizer.stop_token_ids
    config = config_json(
        settings.model, dtype, settings.rotary_base, settings.seq_length, stops, settings.record, settings.form
    )
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation(settings, config))
    for name in TOKENIZER_FILES:
        if (tokenizer.folder / name).is_file():
            shutil.copyfile(tokenizer.folder / name, folder / name)
    for name in REMOTE_CODE_FILES if settings.form == "mimo" else ():
        source = resources.files("megatron_mimo.convert") / "remote_code" / name
        (folder / name).write_text(source.read_text())
    (folder / "README.md").write_text(settings.model_card)
    for name, content in settings.pictures.items():
        (folder / name).write_bytes(content)


def _generation(settings: FolderSettings, config: dict[str, Any]) -> dict[str, Any]:
    """generation_config.json: as it came, ended by what ended texts before and by what does now."""
    given = settings.generation
    if given and settings.keeps_generation:
        return given
    ends = [end for name in (given, config) for end in _listed(name.get("eos_token_id"))]
    unique = list(dict.fromkeys(ends))
    end = given["eos_token_id"] if unique == _listed(given.get("eos_token_id")) else unique
    end = end[0] if isinstance(end, list) and len(end) == 1 else end
    return {"bos_token_id": config["bos_token_id"], **given, "eos_token_id": end}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def check_tokenizer(folder: Path, model: ModelConfig, sha256: str | None = None) -> TokenizerFiles:
    """Raise UserError unless `folder` holds a tokenizer that fits the model and, if given, that hash."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"there is no tokenizer.json in {folder}; name the tokenizer's folder with --tokenizer")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} is not the tokenizer the model was trained with; name the right one with --tokenizer")
    try:
        ids = _token_ids(json.loads(content))
        settings_path = folder / "tokenizer_config.json"
        settings = json.loads(settings_path.read_text()) if settings_path.is_file() else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} does not hold a readable tokenizer: {error!r}") from error
    if max(ids.values()) >= model.vocab_size:
        raise UserError(
            f"{path} has token ids up to {max(ids.values())}, the model only {model.vocab_size} rows;"
            " name the tokenizer it was trained with by --tokenizer"
        )
    if EOD_TOKEN not in ids:
        raise UserError(f"{path} has no {EOD_TOKEN} token, which ends every training document")
    own_end = settings.get("eos_token") or EOD_TOKEN
    own_end = own_end["content"] if isinstance(own_end, dict) else own_end
    ends = [own_end, TURN_END_TOKEN] if TURN_END_TOKEN in _chat_template(folder, settings) else [own_end]
    return TokenizerFiles(
        folder,
        [*dict.fromkeys(ids[end] for end in ends if end in ids and end != EOD_TOKEN), ids[EOD_TOKEN]],
    )


def is_chat_model(folder: Path) -> bool:
    """Whether a model folder has learned to chat: its config.json says so, or it is foreign and has a chat template."""
    settings = {name: _read_json(folder / name) for name in ("config.json", "tokenizer_config.json")}
    trained = settings["config.json"].get("chat_trained")
    return bool(_chat_template(folder, settings["tokenizer_config.json"])) if trained is None else bool(trained)


def chat_template(folder: Path) -> str:
    """The chat template of a model folder; empty where there is none. Raises UserError for a broken file."""
    return _chat_template(folder, _read_json(folder / "tokenizer_config.json"))


def _read_json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file; raises UserError for a broken one."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): get the folder anew") from error


def _chat_template(folder: Path, settings: dict[str, Any]) -> str:
    """Empty where there is none."""
    path = folder / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else str(settings.get("chat_template") or "")


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    return dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
