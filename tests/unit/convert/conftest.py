"""Checkpoints and tokenizers made on the spot, by PyTorch's own checkpoint writer and by the tokenizers library."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch.distributed._shard.sharded_tensor import Shard, init_from_local_shards

from megatron_mimo.cli import convert
from megatron_mimo.config import ModelConfig
from megatron_mimo.convert import mimo, ops

MODEL = ModelConfig(
    num_layers=3,
    hidden_size=32,
    ffn_hidden_size=48,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=384,
    mtp_num_layers=1,
)
STAGES = [
    {"name": "one", "seq_length": 64, "rotary_base": 10_000, "tokens": 1_000, "mixture": "one.yaml"},
    {"name": "two", "seq_length": 128, "rotary_base": 640_000, "tokens": 500, "mixture": "two.yaml"},
]


@pytest.fixture
def process_group():
    """A group of one: PyTorch describes sharded tensors through it. Reading must not need it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def random_weights(model: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Hugging Face names; norms away from 1, biases away from 0."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in mimo.hugging_face_shapes(model).items():
        noise = torch.randn(shape, generator=generator)
        weights[name] = (1 + 0.5 * noise if "norm" in name else noise * (0.3 if "bias" in name else 0.1)).to(dtype)
    return weights


def stack_layers(tensors: dict[str, torch.Tensor], num_layers: int) -> dict[str, torch.Tensor]:
    """Decoder layers as megatron-core stores them: one tensor a kind, with a leading layer axis."""
    stacked = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.layers.")}
    for name in tensors:
        if name.startswith("decoder.layers.0."):
            kind = name.removeprefix("decoder.layers.0.")
            stacked[f"decoder.layers.{kind}"] = torch.stack(
                [tensors[f"decoder.layers.{i}.{kind}"] for i in range(num_layers)]
            )
    return stacked


def sharded(tensor: torch.Tensor):
    """Cut into two chunks along every axis of even length, as tensor and pipeline parallelism would."""
    chunks = [(tensor, [0] * tensor.dim())]
    for axis, size in enumerate(tensor.shape):
        if size % 2 == 0:
            chunks = [
                (half.contiguous(), [*offsets[:axis], i * size // 2, *offsets[axis + 1 :]])
                for chunk, offsets in chunks
                for i, half in enumerate(chunk.chunk(2, dim=axis))
            ]
    return init_from_local_shards([Shard.from_tensor_and_offsets(t, o, 0) for t, o in chunks], tensor.shape)


@pytest.fixture
def write_checkpoint(process_group, tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`write(megatron_tensors, stack=True, **changes to run.json)` -> checkpoint folder."""

    def write(tensors: dict[str, torch.Tensor], *, stack: bool = True, **changes: object) -> Path:
        folder = tmp_path / "checkpoints" / "step_00000007"
        stored = stack_layers(tensors, MODEL.num_layers) if stack else tensors
        extra = {"optimizer.state.exp_avg.output_layer.weight": torch.zeros(4), "rng_state": b"not a tensor"}
        dcp.save({**{k: sharded(t) for k, t in stored.items()}, **extra}, checkpoint_id=folder)
        run = {
            "model": dataclasses.asdict(MODEL),
            "config": {"name": "unit", "stages": STAGES, "data": {"tokenizer": "nowhere"}},
            "step": 7,
            "consumed_tokens": 1234,
            "stage": 1,
            "samples_in_stage": 5,
            "tokenizer_sha256": hashlib.sha256((tokenizer_folder / "tokenizer.json").read_bytes()).hexdigest(),
        }
        (folder / "run.json").write_text(json.dumps(run | changes))
        return folder

    return write


@pytest.fixture(scope="session")
def nano() -> ModelConfig:
    return MODEL


@pytest.fixture(scope="session")
def megatron_weights() -> dict[str, torch.Tensor]:
    return dict(ops.to_megatron(mimo.mimo_ops(MODEL), random_weights(MODEL).__getitem__))


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer with ChatML's special tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = ["one two three four five six seven"] * 4
    tokenizer.train_from_iterator(text, BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def convert_checkpoint():
    """The `main` of `megatron-mimo convert`."""
    return convert.main
