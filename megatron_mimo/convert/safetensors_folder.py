"""Read a Hugging Face folder's safetensors one tensor at a time; nothing in it is executed or unpickled.

Files are read, not memory-mapped: pages of a mapped file would count as this process's memory.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
ROTARY_CACHE = re.compile(r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)")
"""Tables that older tools store beside the weights; every loader computes them from the RoPE base."""
MTP = re.compile(r"model\.mtp_layers\.(\d+)\..+")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class _Place:
    """Where a tensor's values lie."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class HuggingFaceFolder:
    """A folder with config.json and safetensors; FP8 weights with block scales are seen as bf16.

    `notes` says what of the folder is seen otherwise than it is stored.
    """

    def __init__(self, folder: Path, *, mtp_from: Path | None = None, without_mtp: bool = False) -> None:
        """`mtp_from`: another folder that the MTP layers are taken from; `without_mtp`: none are.

        Raises UserError for another architecture, pickled weights, and missing or truncated files.
        """
        self.folder = folder
        self.notes: list[str] = []
        self.config = read_config_json(_read_json(folder / "config.json"), str(folder / "config.json"))
        path = folder / "generation_config.json"
        self.generation_config: dict[str, Any] = _read_json(path) if path.is_file() else {}
        paths = _weight_files(folder)
        self._places = {name: place for path in paths for name, place in _read_header(path).items()}
        self.identity: dict[str, Any] = files_identity([folder / "config.json", *paths])
        self._leave_out_rotary_caches()
        self._settle_mtp(mtp_from, without_mtp)
        if self.config.is_tied and HEAD not in self._places and EMBEDDING in self._places:
            self._places[HEAD] = self._places[EMBEDDING]
            self.notes.append("embedding and output head are one tensor there: here they are two, and train apart")

    def _leave_out_rotary_caches(self) -> None:
        caches = [name for name in self._places if ROTARY_CACHE.fullmatch(name)]
        for name in caches:
            if name.endswith("inv_freq"):
                self._check_rotary_base(name)
            del self._places[name]
        if caches:
            self.notes.append(f"{len(caches)} tables of RoPE ({caches[0]} ...) are left out: loaders compute them")

    def _check_rotary_base(self, name: str) -> None:
        """Raise UserError where a stored table is not that of the configured RoPE base."""
        stored, base = self._read_stored(name).float(), self.config.rotary_base
        computed = base ** (-torch.arange(len(stored)) / len(stored))
        if not torch.allclose(stored, computed, rtol=0.02):  # bf16 rounds to 1 in 256
            raise UserError(
                f"{self.folder}: {name} is not that of config.json's rope_theta {base}; correct one of them"
            )

    def _settle_mtp(self, mtp_from: Path | None, without_mtp: bool) -> None:
        """Which MTP layers there are: the folder's own, another's, or none."""
        model, own = self.config.model, _mtp_layers(self._places)
        if mtp_from is not None or without_mtp:
            self._places = {name: place for name, place in self._places.items() if not MTP.fullmatch(name)}
            model = model.without_mtp()
        if mtp_from is not None:
            donor = HuggingFaceFolder(mtp_from)
            taken = {name: place for name, place in donor._places.items() if MTP.fullmatch(name)}
            if not taken or any(donor._is_fp8(name) for name in taken):
                raise UserError(f"--mtp-from: {mtp_from} has no MTP layers in bf16 or fp32; name the model that has")
            self._places |= taken
            self.identity |= donor.identity
            names = ("mtp_num_layers", "mtp_recursive_steps", "mtp_hidden_state", "mtp_zero_first_embedding")
            model = replace(model, **{name: getattr(donor.config.model, name) for name in names})
        elif own and not self.config.names_mtp and not without_mtp:
            model = replace(model, mtp_num_layers=own)
            self.notes.append(f"config.json does not name the {own} MTP layer(s) that the weights hold; they are kept")
        elif not self.config.names_mtp and self.config.form == "mimo" and not without_mtp:
            self.notes.append("there are no MTP layers, though MiMo has some: --mtp-from MODEL takes them from another")
        elif own < model.mtp_num_layers and not without_mtp:
            raise UserError(
                f"{self.folder} has the weights of {own} MTP layers, its config.json says {model.mtp_num_layers}:"
                " another tool has lost them. Take them from the model that was tuned with --mtp-from MODEL, or"
                " continue without MTP layers with --without-mtp"
            )
        self.config = replace(self.config, model=model)

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


def _mtp_layers(names: Iterable[str]) -> int:
    """Number of MTP layers that tensors of these names belong to."""
    return len({match[1] for name in names if (match := MTP.fullmatch(name))})


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
