"""Which operations go into which file, in either direction, and the safetensors files themselves.

A plan is made of shapes alone, so that a file's name, header and size are known before the first weight is read, and
a file is written one operation at a time.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import UserError
from megatron_mimo.convert.ops import Op

MAX_SHARD_BYTES = 2 * 1024**3
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
Read = Callable[[str], Tensor]
Direction = Callable[[Iterable[Op], Read], Iterator[tuple[str, Tensor]]]
"""`ops.to_hugging_face` or `ops.to_megatron`."""


@dataclass(frozen=True)
class Shard:
    """One file: its operations and what they put out, as `meta` tensors in the order of writing."""

    ops: list[Op]
    outputs: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.outputs.values())


def plan_shards(
    ops: Iterable[Op], convert: Direction, read_meta: Read, max_shard_bytes: int = MAX_SHARD_BYTES
) -> list[Shard]:
    """Cut `ops` into files of at most `max_shard_bytes`, or of one operation that puts out more.

    `read_meta` gives a `meta` tensor of the source by name.
    """
    shards: list[Shard] = []
    for op in ops:
        outputs = dict(convert([op], read_meta))
        size = sum(tensor.nbytes for tensor in outputs.values())
        if not shards or shards[-1].nbytes + size > max_shard_bytes:
            shards.append(Shard([], {}))
        shards[-1].ops.append(op)
        shards[-1].outputs.update(outputs)
    if not shards:
        raise UserError("there are no tensors to write")
    return shards


def main_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The number format of most bytes: what config.json calls the model's."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.nbytes
    return sizes.most_common(1)[0][0]


def format_notes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What to know of tensors in other number formats than the model's, a line for each format."""
    dtype, others = main_dtype(tensors), {}
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            others.setdefault(tensor.dtype, []).append(name)
    return [
        f"{len(names)} tensors ({names[0]} ...) are {_name(other)}, the others {_name(dtype)}: they are kept so, and"
        f" loaders that are told {_name(dtype)} round them"
        for other, names in others.items()
    ]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shard_names(count: int) -> list[str]:
    return [f"model-{index + 1:05d}-of-{count:05d}.safetensors" for index in range(count)]


def index_json(shards: list[Shard]) -> str:
    """`model.safetensors.index.json`: which file holds which tensor."""
    names = shard_names(len(shards))
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard.outputs}
    content = {"metadata": {"total_size": sum(shard.nbytes for shard in shards)}, "weight_map": weight_map}
    return json.dumps(content, indent=2) + "\n"


def write_safetensors(path: Path, outputs: dict[str, Tensor], tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write `tensors`, which come one by one in the order and of the shapes of `outputs` (`meta` tensors)."""
    with path.open("wb") as file:
        file.write(_header(outputs))
        for (name, tensor), expected in zip(tensors, outputs, strict=True):
            assert name == expected, (name, expected)
            file.write(raw_bytes(tensor))


def _header(outputs: dict[str, Tensor]) -> bytes:
    """Length of the JSON text, then the JSON text, padded so that the data begin at a multiple of 8 bytes."""
    codes = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
    content: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in outputs.items():
        start, end = end, end + tensor.nbytes
        content[name] = {"dtype": codes[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def raw_bytes(tensor: Tensor) -> memoryview:
    """The tensor's values in memory, without a copy where it is contiguous."""
    values: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(values)


def check_finite(read: Read) -> Read:
    """The same `read`, which raises UserError for a tensor with a value that is not finite."""

    def checked(name: str) -> Tensor:
        tensor = read(name)
        # The extremes carry NaN and infinity, and cost a sixtieth of isfinite() on bf16.
        if tensor.numel() and not all(bool(torch.isfinite(value)) for value in torch.aminmax(tensor)):
            raise UserError(f"{name} holds NaN or infinite values: the checkpoint is unusable, take an earlier one")
        return tensor

    return checked
