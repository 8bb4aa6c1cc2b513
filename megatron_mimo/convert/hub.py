"""Push an exported folder to Hugging Face or ModelScope."""

import importlib
import json
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from megatron_mimo.config import UserError

HubName = Literal["huggingface", "modelscope"]
ADDRESSES = {"huggingface": "https://huggingface.co", "modelscope": "https://modelscope.cn/models"}
NEEDED_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md")
NEEDED_OF_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "README.md")
INDEX = "model.safetensors.index.json"
PUSHED_SUFFIXES = {".json", ".jinja", ".md", ".png", ".py", ".safetensors", ".txt"}


def files_to_push(folder: Path) -> list[Path]:
    """The files of an exported model or adapter, the weights among them complete and readable; raises UserError
    otherwise.

    What is no part of such a folder (pickles above all) is refused, not left out.
    """
    is_adapter = (folder / NEEDED_OF_ADAPTERS[0]).is_file()
    needed = NEEDED_OF_ADAPTERS if is_adapter else (*NEEDED_FILES, INDEX)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is not an exported model: {', '.join(missing)} missing; export it anew")
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    foreign = [path.name for path in files if not path.is_file() or path.suffix not in PUSHED_SUFFIXES]
    if foreign:
        raise UserError(f"{folder} holds what an exported model does not: {', '.join(foreign)}; remove it first")
    if is_adapter:
        _check_adapter(folder)
    else:
        _check_weights(folder)
    return files


def push(folder: Path, repo_id: str, hub: HubName, private: bool, message: str) -> str:
    """Create `repo_id` where it does not exist, upload the folder, return its address. Tokens: the hub's own login."""
    files_to_push(folder)
    if hub == "huggingface":
        client = _client("huggingface_hub", "HfApi")
        client.create_repo(repo_id, private=private, exist_ok=True)
        client.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    else:
        client = _client("modelscope_hub", "HubApi")
        if not client.repo_exists(repo_id, "model"):
            client.create_repo(repo_id, "model", visibility="private" if private else "public")
        client.upload_folder(repo_id, "model", folder, commit_message=message)
    return f"{ADDRESSES[hub]}/{repo_id}"


def _client(package: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(package), name)()
    except ImportError as error:
        raise UserError(f"{package} is not installed: pip install {package.replace('_', '-')}") from error


def _check_adapter(folder: Path) -> None:
    """Readable weights, and a base model that others can fetch."""
    _tensor_names(folder / NEEDED_OF_ADAPTERS[1])
    base = json.loads((folder / NEEDED_OF_ADAPTERS[0]).read_text()).get("base_model_name_or_path") or ""
    if not base or Path(base).exists() or base.startswith(("/", ".")):
        raise UserError(
            f"{folder} is an adapter of {base or 'no named model'}, which nobody else can fetch: write it with"
            " --base-model OWNER/NAME"
        )


def _check_weights(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    for shard in sorted(set(index.values())):
        listed = {name for name, place in index.items() if place == shard}
        held = _tensor_names(folder / shard)
        if held != listed:
            raise UserError(f"{folder / shard} does not hold what the index lists: {sorted(held ^ listed)[:5]}")


def _tensor_names(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); export it anew") from error
