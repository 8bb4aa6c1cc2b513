"""Reading torch_dist checkpoints that PyTorch's own writer wrote, whole and damaged."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from megatron_mimo.config import UserError
from megatron_mimo.convert.megatron import TorchDistCheckpoint


@pytest.mark.parametrize("stack", [True, False])
def test_every_tensor_comes_back_layer_by_layer(write_checkpoint, megatron_weights, stack: bool) -> None:
    """From chunks cut along every axis; optimizer state and objects stay out of it."""
    checkpoint = TorchDistCheckpoint(write_checkpoint(megatron_weights, stack=stack))
    assert checkpoint.shapes == {name: tuple(tensor.shape) for name, tensor in megatron_weights.items()}
    for name, tensor in megatron_weights.items():
        assert torch.equal(checkpoint.read(name), tensor), name
    assert checkpoint.record.progress.step == 7


def test_dtype_is_kept(write_checkpoint, megatron_weights) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in megatron_weights.items()}
    read = TorchDistCheckpoint(write_checkpoint(halves)).read("decoder.layers.1.self_attention.linear_qkv.weight")
    assert read.dtype == torch.bfloat16
    assert torch.equal(read, halves["decoder.layers.1.self_attention.linear_qkv.weight"])


def test_the_stock_name_of_the_final_norm_is_accepted(write_checkpoint, megatron_weights) -> None:
    stock = dict(megatron_weights)
    stock["decoder.final_layernorm.weight"] = stock.pop("final_layernorm.weight")
    checkpoint = TorchDistCheckpoint(write_checkpoint(stock))
    assert torch.equal(checkpoint.read("final_layernorm.weight"), megatron_weights["final_layernorm.weight"])


def test_incomplete_checkpoint(write_checkpoint, megatron_weights, tmp_path: Path) -> None:
    folder = write_checkpoint(megatron_weights)
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match="not a complete checkpoint"):
        TorchDistCheckpoint(folder)
    with pytest.raises(UserError, match="not a complete checkpoint"):
        TorchDistCheckpoint(tmp_path / "elsewhere")


def test_truncated_and_missing_files(write_checkpoint, megatron_weights) -> None:
    folder = write_checkpoint(megatron_weights)
    (data,) = folder.glob("*.distcp")
    os.truncate(data, 1000)
    with pytest.raises(UserError, match=r"is damaged at output_layer\.weight"):
        TorchDistCheckpoint(folder).read("output_layer.weight")
    data.unlink()
    with pytest.raises(UserError, match=r"is damaged at output_layer\.weight"):
        TorchDistCheckpoint(folder).read("output_layer.weight")
    os.truncate(folder / ".metadata", 200)
    with pytest.raises(UserError, match="not the metadata"):
        TorchDistCheckpoint(folder)


def test_a_flipped_bit_is_noticed(write_checkpoint, megatron_weights) -> None:
    folder = write_checkpoint(megatron_weights)
    (data,) = folder.glob("*.distcp")
    content = bytearray(data.read_bytes())
    first_value = megatron_weights["output_layer.weight"][0, :4].numpy().tobytes()
    content[content.index(first_value)] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged at output_layer\.weight"):
        TorchDistCheckpoint(folder).read("output_layer.weight")


def test_a_missing_chunk_is_noticed(write_checkpoint, megatron_weights, nano) -> None:
    checkpoint = TorchDistCheckpoint(write_checkpoint(megatron_weights))
    stored = checkpoint._metadata.state_dict_metadata["output_layer.weight"]
    dropped = stored.chunks.pop()
    rows, columns = nano.vocab_size, nano.hidden_size
    left = rows * columns - dropped.sizes[0] * dropped.sizes[1]
    with pytest.raises(UserError, match=f"has {left} of {rows * columns} values"):
        checkpoint.read("output_layer.weight")


class _Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("target", [".metadata", "__0_0.distcp"])
def test_a_pickle_from_outside_runs_nothing(write_checkpoint, megatron_weights, tmp_path: Path, target: str) -> None:
    folder, mark = write_checkpoint(megatron_weights), tmp_path / "executed"
    (folder / target).write_bytes(pickle.dumps(_Attack(mark)) * 50)
    with pytest.raises(UserError):
        TorchDistCheckpoint(folder).read("output_layer.weight")
    assert not mark.exists()
