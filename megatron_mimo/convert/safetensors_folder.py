"""Read a Hugging Face folder's safetensors one tensor at a time; nothing in it is executed or unpickled.

Files are read, not memory-mapped: pages of a mapped file would count as this process's memory.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import UserError
from megatron_mimo.convert.config_json import read_config_json
from megatron_mimo.convert.page_cache import forget
from megatron_mimo.convert.shards import SAFETENSORS_DTYPES, raw_bytes
from megatron_mimo.convert.weights import files_identity

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
FP8_SCALE = "_scale_inv"


@dataclass(frozen=True)
class _Place:
    """Where a tensor's values lie."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class HuggingFaceFolder:
    """A folder with config.json and safetensors; FP8 weights with block scales are seen as bf16."""

    def __init__(self, folder: Path) -> None:
        """Raise UserError for another architecture, pickled weights, and missing or truncated files."""
        self.folder = folder
        self.config = read_config_json(_read_json(folder / "config.json"), str(folder / "config.json"))
        paths = _weight_files(folder)
        self._places = {name: place for path in paths for name, place in _read_header(path).items()}
        self.identity: dict[str, Any] = files_identity([folder / "config.json", *paths])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor but the scales that belong to FP8 weights."""
        return {name: place.shape for name, place in self._places.items() if not self._is_scale(name)}

    def read_meta(self, name: str) -> Tensor:
        place = self._places[name]
        return torch.empty(place.shape, dtype=torch.bfloat16 if self._is_fp8(name) else place.dtype, device="meta")

    def read(self, name: str) -> Tensor:
        """The whole tensor; raises UserError where its file cannot be read or an FP8 weight has no scale."""
        values = self._read_stored(name)
        if not self._is_fp8(name):
            return values
        block = self.config.quantization_block
        if block is None or name + FP8_SCALE not in self._places:
            raise UserError(f"{self.folder}: {name} is FP8 without a block scale; use the bf16 checkpoint")
        return dequantize(values, self._read_stored(name + FP8_SCALE), block)

    def _read_stored(self, name: str) -> Tensor:
        place = self._places[name]
        tensor = torch.empty(place.shape, dtype=place.dtype)
        target = raw_bytes(tensor)
        try:
            with place.path.open("rb", buffering=0) as file:
                file.seek(place.offset)
                while target:
                    count = file.readinto(target)
                    if not count:
                        raise OSError("the file has become shorter")
                    target = target[count:]
                forget(file.fileno(), place.offset, tensor.nbytes)
        except OSError as error:
            raise UserError(f"cannot read {name} from {place.path}: {error}") from error
        return tensor

    def _is_fp8(self, name: str) -> bool:
        return self._places[name].dtype in FP8_DTYPES

    def _is_scale(self, name: str) -> bool:
        weight = name.removesuffix(FP8_SCALE)
        return weight != name and weight in self._places and self._is_fp8(weight)


def dequantize(values: Tensor, scales: Tensor, block: tuple[int, int]) -> Tensor:
    """FP8 `values` [rows, columns] times `scales` [ceil(rows / block), ceil(columns / block)] -> bf16."""
    rows, columns = values.shape
    wanted = (-(-rows // block[0]), -(-columns // block[1]))
    if tuple(scales.shape) != wanted:
        raise UserError(f"an FP8 weight {[rows, columns]} has scales {list(scales.shape)} instead of {list(wanted)}")
    spread = scales.float().repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return (values.float() * spread).bfloat16()


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files, all of them there."""
    index = folder / INDEX
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"{index} has no weight_map; fetch the folder again")
        # A name from outside must not lead out of the folder.
        paths = sorted({folder / os.path.basename(name) for name in weight_map.values()})
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise UserError(f"{folder} lacks weight files that its index names: {', '.join(missing)}; fetch them")
        return paths
    paths = sorted(folder.glob("*.safetensors"))
    if paths:
        return paths
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} holds pickled weights only ({', '.join(pickles)}); unpickling can run foreign code, so they are"
            " not read: save them as safetensors where you trust them"
        )
    raise UserError(f"there are no safetensors in {folder}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; name a Hugging Face model folder") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content


def _read_header(path: Path) -> dict[str, _Place]:
    """Names, shapes and places of a safetensors file, whose length is exactly what the header says."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if 8 + length > size:
                raise ValueError("the header is cut off")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        places = {name: _place(path, 8 + length, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is truncated or not a safetensors file ({error}); fetch it again") from error
    end = max((8 + length + entry["data_offsets"][1] for entry in header.values()), default=8 + length)
    if end != size:
        raise UserError(f"{path} is truncated or damaged: it has {size} bytes instead of {end}; fetch it again")
    return places


def _place(path: Path, data_start: int, entry: dict[str, Any]) -> _Place:
    start, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), SAFETENSORS_DTYPES[entry["dtype"]]
    if start < 0 or end - start != torch.empty(shape, dtype=dtype, device="meta").nbytes:
        raise ValueError(f"shape {list(shape)} does not take {end - start} bytes")
    return _Place(path, data_start + start, shape, dtype)
