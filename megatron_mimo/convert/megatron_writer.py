"""Write a `torch_dist` checkpoint of weights, one tensor at a time, without a process group.

Files and metadata are those of torch.distributed.checkpoint, names and stacking those of megatron-core, so that
`megatron.core.dist_checkpointing.load` reads the folder in any parallel layout: every decoder layer is one chunk of a
tensor with a leading layer axis, which is never held whole.
"""

import dataclasses
import hashlib
import io
import json
import pickle
import re
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from megatron_mimo.config import UserError

_DECODER_LAYER = re.compile(r"(decoder\.layers)\.(\d+)\.(.+)")
_MODULE_WITH_STATE = re.compile(r"(.*\.(?:linear_\w+|eh_proj))\.weight")
FORMAT = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}
"""megatron-core's metadata.json."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A stored part of a tensor: `offsets` and `sizes` within the tensor `key` of `shape`, at `start` of its file."""

    key: str
    shape: list[int]
    offsets: list[int]
    sizes: list[int]
    dtype: str
    """Empty for an object, which has no shape."""
    start: int = 0
    length: int = 0


def layer_chunk(name: str, tensor: Tensor, num_layers: int) -> Chunk:
    """Where megatron-core keeps a whole weight: a decoder layer's in a stack over the layers, others by themselves."""
    sizes, dtype = list(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    layer = _DECODER_LAYER.fullmatch(name)
    if layer is None:
        return Chunk(name, sizes, [0] * len(sizes), sizes, dtype)
    offsets = [int(layer[2]), *[0] * len(sizes)]
    return Chunk(f"{layer[1]}.{layer[3]}", [num_layers, *sizes], offsets, [1, *sizes], dtype)


def write_chunks(path: Path, chunks: Iterable[tuple[Chunk, Tensor]]) -> dict[str, Any]:
    """Write one `.distcp` file; returns its facts for `metadata`: sha256 and chunks."""
    written = []
    with path.open("wb") as file, _HashedFile(file) as hashed:
        for chunk, tensor in chunks:
            start = hashed.position
            # torch.save would write the whole storage that a view belongs to.
            own = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
            sink: Any = hashed
            torch.save(own.contiguous().reshape(chunk.sizes), sink)
            written.append(dataclasses.replace(chunk, start=start, length=hashed.position - start))
        return {"sha256": hashed.hexdigest(), "chunks": [dataclasses.asdict(chunk) for chunk in written]}


def write_module_states(path: Path, names: Iterable[str], num_layers: int) -> dict[str, Any]:
    """Write the empty `_extra_state` that megatron-core's loader asks for beside each linear layer and attention."""
    written = []
    archive = io.BytesIO()
    torch.save([None], archive)
    with path.open("wb") as file, _HashedFile(file) as hashed:
        for key in _module_state_keys(names, num_layers):
            written.append(Chunk(key, [], [], [], "", hashed.position, len(archive.getbuffer())))
            hashed.write(archive.getbuffer())
        return {"sha256": hashed.hexdigest(), "chunks": [dataclasses.asdict(chunk) for chunk in written]}


def _module_state_keys(names: Iterable[str], num_layers: int) -> list[str]:
    modules = [match[1] for name in names if (match := _MODULE_WITH_STATE.fullmatch(name))]
    # Transformer Engine's attention has a state too.
    modules += [name.removesuffix("linear_qkv") + "core_attention" for name in modules if name.endswith("linear_qkv")]
    keys = []
    for module in modules:
        layer = _DECODER_LAYER.fullmatch(module)
        keys.append(
            f"{layer[1]}.{layer[3]}._extra_state/shard_{layer[2]}_{num_layers}"
            if layer
            else f"{module}._extra_state/shard_0_1"
        )
    return keys


def write_metadata(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Write `.metadata`, `metadata.json` and `common.pt` for the files whose facts are given."""
    tensors: dict[str, Any] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}
    for file_name, facts in files.items():
        for entry in facts["chunks"]:
            chunk = Chunk(**entry)
            _enter(tensors, chunk)
            index = MetadataIndex(chunk.key, chunk.offsets if chunk.dtype else None)
            places[index] = _StorageInfo(file_name, chunk.start, chunk.length)
    metadata = Metadata(tensors, None, places, StorageMeta(save_id=str(uuid.uuid4())), CURRENT_DCP_VERSION)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    (folder / "metadata.json").write_text(json.dumps(FORMAT))
    torch.save({}, folder / "common.pt")


def _enter(tensors: dict[str, Any], chunk: Chunk) -> None:
    if not chunk.dtype:
        tensors[chunk.key] = BytesStorageMetadata()
        return
    dtype = getattr(torch, chunk.dtype)
    stored = tensors.setdefault(
        chunk.key, TensorStorageMetadata(TensorProperties(dtype=dtype), torch.Size(chunk.shape), [])
    )
    if stored.properties.dtype != dtype or stored.size != torch.Size(chunk.shape):
        raise UserError(
            f"{chunk.key}: its layers do not have one shape and number format ({list(stored.size)},"
            f" {stored.properties.dtype} and {chunk.shape}, {dtype})"
        )
    stored.chunks.append(ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes)))


class _HashedFile:
    """Writes to a file and hashes the same bytes on a second core meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self.position = 0
        self._file, self._hash = file, hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "_HashedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def write(self, data: Any) -> int:
        """As of a binary file."""
        hashing = self._pool.submit(self._hash.update, data)
        try:
            self._file.write(data)
        finally:
            # The caller's memory is only sure to live until this returns.
            hashing.result()
        self.position += len(data)
        return len(data)

    def flush(self) -> None:
        """As of a binary file."""
        self._file.flush()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
