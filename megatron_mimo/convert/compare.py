"""Are a Megatron checkpoint and a Hugging Face folder the same model, to the last bit?"""

from pathlib import Path

import torch
from torch import Tensor

from megatron_mimo.config import UserError
from megatron_mimo.convert.lora import MergedWeights
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import hugging_face_shapes, megatron_shapes, mimo_ops
from megatron_mimo.convert.ops import Op, check_shapes, to_hugging_face
from megatron_mimo.convert.progress import Progress, counted, no_progress
from megatron_mimo.convert.safetensors_folder import HuggingFaceFolder
from megatron_mimo.convert.shards import Direction
from megatron_mimo.convert.weights import Weights


def compare_folders(
    megatron: Path,
    hugging_face: Path,
    convert: Direction,
    progress: Progress = no_progress,
    *,
    mtp_from: Path | None = None,
    without_mtp: bool = False,
) -> int:
    """Read both folders again and convert one (`ops.to_hugging_face` or `to_megatron`) into the other's form.

    `mtp_from` and `without_mtp` as of the import. A plain Qwen2 folder is compared with the main model. Returns the
    number of tensors, all identical. Raises UserError that lists, by name, every tensor that is missing, extra,
    misshaped or different. To check a conversion, convert back.
    """
    stored = TorchDistCheckpoint(megatron)
    folder = HuggingFaceFolder(hugging_face, mtp_from=mtp_from, without_mtp=without_mtp)
    checkpoint = MergedWeights(stored)
    model, rows = stored.record.model, folder.config.model.vocab_size
    check_shapes(checkpoint.shapes, megatron_shapes(model), str(megatron))
    if folder.config.form == "qwen2" and mtp_from is None:
        model = model.without_mtp()
    check_shapes(folder.shapes, hugging_face_shapes(model, rows), str(hugging_face))
    sides = (checkpoint, folder) if convert is to_hugging_face else (folder, checkpoint)
    return compare_weights(mimo_ops(model, rows), convert, *sides, progress)


def compare_weights(
    ops: list[Op], convert: Direction, source: Weights, target: Weights, progress: Progress = no_progress
) -> int:
    """Number of tensors that `ops` make of `source`, all of them as `target` has them; UserError lists the others."""
    names = [name for op in ops for name in (op.hugging_face if convert is to_hugging_face else op.megatron)]
    total_bytes = sum(target.read_meta(name).nbytes for name in names)
    different = [
        name
        for name, tensor in counted(convert(ops, source.read), progress, 0, total_bytes)
        if not same_bits(tensor, target.read(name))
    ]
    if different:
        raise UserError(
            f"{len(different)} of {len(names)} tensors differ:\n  " + "\n  ".join(different) + "\n"
            "one of the two folders is damaged or belongs to another model; convert again"
        )
    return len(names)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Equal in shape, number format and every bit."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return torch.equal(_as_integers(left), _as_integers(right))


def _as_integers(tensor: Tensor) -> Tensor:
    """The same bits as wide integers, which compare fastest and have no NaN."""
    values = tensor.contiguous().reshape(-1).view(torch.uint8)
    return values.view(torch.int64) if values.numel() % 8 == 0 and values.storage_offset() % 8 == 0 else values
