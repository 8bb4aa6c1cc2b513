"""A Hugging Face folder that Transformers, vLLM and SGLang load as it is.

Written under a temporary name beside the destination and renamed at the end: the final name never holds a part of a
model, and nothing that exists is overwritten.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.convert.shards import MAX_SHARD_BYTES, write_shards

END_OF_DOCUMENT = "<|endoftext|>"
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
    """What ends a text: the tokenizer's own end token first, then the end-of-document token of pre-training."""


def write_hugging_face(
    destination: Path,
    model: ModelConfig,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    rotary_base: int,
    seq_length: int,
    tokenizer: TokenizerFiles,
    model_card: str = "",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write the model with the given (Hugging Face name, tensor) pairs to `destination`, which must not exist yet."""
    with new_folder(destination) as folder:
        dtype = write_shards(folder, tensors, max_shard_bytes)
        config = config_json(model, dtype, rotary_base, seq_length, tokenizer.stop_token_ids)
        _write_json(folder / "config.json", config)
        _write_json(folder / "generation_config.json", {key: config[key] for key in ("bos_token_id", "eos_token_id")})
        for name in TOKENIZER_FILES:
            if (tokenizer.folder / name).is_file():
                shutil.copyfile(tokenizer.folder / name, folder / name)
        for name in REMOTE_CODE_FILES:
            source = resources.files("megatron_mimo.convert") / "remote_code" / name
            (folder / name).write_text(source.read_text())
        (folder / "README.md").write_text(model_card)


def config_json(
    model: ModelConfig, dtype: torch.dtype, rotary_base: int, seq_length: int, stop_token_ids: list[int]
) -> dict[str, Any]:
    """`config.json` with every value explicit: loaders fill gaps with defaults of their own, silently."""
    return {
        "architectures": ["MiMoForCausalLM"],
        "model_type": "mimo",
        "auto_map": {
            "AutoConfig": "configuration_mimo.MiMoConfig",
            "AutoModel": "modeling_mimo.MiMoBackbone",
            "AutoModelForCausalLM": "modeling_mimo.MiMoForCausalLM",
        },
        "attention_bias": True,
        "attention_dropout": 0.0,
        "bos_token_id": stop_token_ids[-1],
        "eos_token_id": stop_token_ids[0] if len(stop_token_ids) == 1 else stop_token_ids,
        "head_dim": model.kv_channels,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": model.init_method_std,
        "intermediate_size": model.ffn_hidden_size,
        "max_position_embeddings": seq_length,
        "max_window_layers": model.num_layers,
        "mtp_hidden_state": model.mtp_hidden_state,
        "mtp_zero_first_embedding": model.mtp_zero_first_embedding,
        "num_attention_heads": model.num_attention_heads,
        "num_hidden_layers": model.num_layers,
        "num_key_value_heads": model.num_query_groups,
        "num_nextn_predict_layers": model.mtp_num_layers,
        "rms_norm_eps": model.layernorm_epsilon,
        "rope_scaling": None,
        "rope_theta": float(rotary_base),
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": model.vocab_size,
    }


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
    if END_OF_DOCUMENT not in ids:
        raise UserError(f"{path} has no {END_OF_DOCUMENT} token, which ends every training document")
    own_end = settings.get("eos_token") or END_OF_DOCUMENT
    own_end = own_end["content"] if isinstance(own_end, dict) else own_end
    return TokenizerFiles(folder, list(dict.fromkeys([ids.get(own_end, ids[END_OF_DOCUMENT]), ids[END_OF_DOCUMENT]])))


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    return dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder that becomes `destination` when the block ends well and disappears when it does not."""
    check_absent(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".tmp", dir=destination.parent))
    try:
        yield folder
        folder.chmod(0o755)
        check_absent(destination)
        os.rename(folder, destination)
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror or error}; nothing was left behind") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_absent(destination: Path) -> None:
    """Raise UserError where something exists at `destination`."""
    if destination.exists() or destination.is_symlink():
        raise UserError(f"{destination} exists and is not overwritten; choose another place or remove it first")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
