"""Read the weights of a `torch_dist` checkpoint, one tensor at a time, without a process group.

The format: `.metadata` (a pickle) says which chunk of which tensor lies at which offset of which `.distcp` file; each
chunk there is a `torch.save` archive. megatron-core stacks equal decoder layers into one tensor with a leading
layer axis (`decoder.layers.mlp.linear_fc2.weight` [L, ...]); here they are seen layer by layer.

Neither part can run foreign code: the metadata is unpickled with a closed list of record types, the chunks with
`weights_only=True`.
"""

import io
import math
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from megatron_mimo.config import UserError
from megatron_mimo.convert.page_cache import forget
from megatron_mimo.convert.shards import raw_bytes
from megatron_mimo.convert.weights import files_identity
from megatron_mimo.training.checkpoint_record import read_record

_RECORD_TYPES = {
    "pathlib": {"PosixPath"},
    "pathlib._local": {"PosixPath"},
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.planner": {"SavePlan", "TensorWriteData", "WriteItem", "WriteItemType"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
}
"""The only names `.metadata` may refer to, beside tensor dtypes."""

_STACKED_LAYERS = re.compile(r"(.*\blayers)\.(?!\d)(.+)")
_OTHER_NAMES = {"decoder.final_layernorm.weight": "final_layernorm.weight"}
"""megatron-core's stock model keeps the final norm inside the decoder block."""


class TorchDistCheckpoint:
    """A complete checkpoint folder: `record` of its run, `shapes` of its model tensors, `read` gives one of them."""

    def __init__(self, folder: Path) -> None:
        """Raise UserError for a folder that is missing, incomplete or not of this format."""
        self.folder = folder
        self.record = read_record(folder)
        self._metadata = _read_metadata(folder / ".metadata")
        self._places: dict[str, tuple[str, int | None]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for key, stored in self._metadata.state_dict_metadata.items():
            if isinstance(stored, TensorStorageMetadata) and not key.startswith("optimizer."):
                self._add(key, tuple(stored.size))

    def _add(self, key: str, shape: tuple[int, ...]) -> None:
        """Enter one stored tensor under the names of the layers it holds."""
        stacked = _STACKED_LAYERS.fullmatch(key)
        if stacked is None:
            name = _OTHER_NAMES.get(key, key)
            self._places[name], self.shapes[name] = (key, None), shape
            return
        for layer in range(shape[0]):
            name = f"{stacked[1]}.{layer}.{stacked[2]}"
            self._places[name], self.shapes[name] = (key, layer), shape[1:]

    @property
    def identity(self) -> dict[str, Any]:
        """Place, size and time of change of each file."""
        return files_identity([path for path in self.folder.iterdir() if path.is_file()])

    def read_meta(self, name: str) -> Tensor:
        return torch.empty(self.shapes[name], dtype=self._stored(name).properties.dtype, device="meta")

    def read(self, name: str) -> Tensor:
        """The whole tensor `name`; raises UserError where its file is damaged or parts of it are missing."""
        key, layer = self._places[name]
        stored = self._stored(name)
        chunks = [c for c in stored.chunks if layer is None or c.offsets[0] <= layer < c.offsets[0] + c.sizes[0]]
        if len(chunks) == 1 and math.prod(chunks[0].sizes) == math.prod(self.shapes[name]):
            return self._load(key, chunks[0]).reshape(self.shapes[name])
        tensor = torch.empty(self.shapes[name], dtype=stored.properties.dtype)
        covered = sum(self._copy_chunk(tensor, key, chunk, layer) for chunk in chunks)
        if covered != tensor.numel():
            raise UserError(
                f"{self.folder}: {name} has {covered} of {tensor.numel()} values;"
                " the checkpoint is incomplete, take another"
            )
        return tensor

    def _stored(self, name: str) -> TensorStorageMetadata:
        stored = self._metadata.state_dict_metadata[self._places[name][0]]
        assert isinstance(stored, TensorStorageMetadata)
        return stored

    def _copy_chunk(self, tensor: Tensor, key: str, chunk: ChunkStorageMetadata, layer: int | None) -> int:
        """Copy one stored chunk to its place in `tensor`; returns the number of values copied."""
        offsets, sizes, values = list(chunk.offsets), list(chunk.sizes), self._load(key, chunk)
        if layer is not None:
            values, offsets, sizes = values[layer - offsets[0]], offsets[1:], sizes[1:]
        tensor[tuple(slice(o, o + size) for o, size in zip(offsets, sizes, strict=True))] = values
        return math.prod(sizes)

    def _load(self, key: str, chunk: ChunkStorageMetadata) -> Tensor:
        place = self._metadata.storage_data[MetadataIndex(key, chunk.offsets)]
        path = self.folder / Path(place.relative_path).name
        try:
            with path.open("rb", buffering=0) as file:
                values = _load_archive(_Slice(file, place.offset, place.length))
                forget(file.fileno(), place.offset, place.length)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise UserError(f"{path} is damaged at {key}; take another checkpoint ({_first_line(error)})") from error
        if not isinstance(values, Tensor) or values.shape != chunk.sizes:
            raise UserError(f"{path} is damaged at {key}: it does not hold a tensor {list(chunk.sizes)}")
        return values


class _Slice(io.RawIOBase):
    """`length` bytes of a file from `start` on, as a file of their own."""

    def __init__(self, file: BinaryIO | io.FileIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")[: max(0, self._length - self._position)]
        self._file.seek(self._start + self._position)
        count = self._file.readinto(target) or 0  # type: ignore[union-attr]
        self._position += count
        return count


def _load_archive(archive: _Slice) -> Any:
    """The tensor of a `torch.save` archive, its checksums compared, which torch.load does not do."""
    with zipfile.ZipFile(archive) as records:
        (values_record,) = (record for record in records.infolist() if record.filename.endswith("/data/0"))
        for record in records.infolist():
            if record is not values_record:
                records.read(record)
    archive.seek(0)
    source: Any = archive
    values = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(values, Tensor):
        raise zipfile.BadZipFile("it holds no tensor")
    storage = torch.empty(0, dtype=torch.uint8).set_(values.untyped_storage())
    if zlib.crc32(raw_bytes(storage)) != values_record.CRC:
        raise zipfile.BadZipFile("a checksum does not match")
    return values


class _RecordUnpickler(pickle.Unpickler):
    """An unpickler that knows plain records and dtypes, and no function that could do harm."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        is_dtype = module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype)
        if not is_dtype and global_name not in _RECORD_TYPES.get(module_name, ()):
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not part of the format")
        return super().find_class(module_name, global_name)


def _read_metadata(path: Path) -> Metadata:
    try:
        with path.open("rb") as file:
            metadata = _RecordUnpickler(file).load()
    except (
        OSError,
        EOFError,
        ValueError,
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise UserError(f"{path} is not the metadata of a torch_dist checkpoint: {_first_line(error)}") from error
    if not isinstance(metadata, Metadata):
        raise UserError(f"{path} is not the metadata of a torch_dist checkpoint")
    return metadata


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
