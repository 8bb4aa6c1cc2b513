"""Every operation, and the whole list of MiMo's, returns every bit; the layouts equal those written out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.convert import mimo, ops

sizes = st.integers(1, 5)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
configs = st.builds(
    lambda layers, groups, heads_per_group, half_head, hidden, ffn, vocab, mtp: ModelConfig(
        num_layers=layers,
        hidden_size=hidden,
        ffn_hidden_size=ffn,
        num_attention_heads=groups * heads_per_group,
        num_query_groups=groups,
        kv_channels=2 * half_head,
        vocab_size=vocab,
        mtp_num_layers=mtp,
    ),
    *(st.integers(1, 3), sizes, sizes, sizes, sizes, sizes, sizes, st.integers(0, 3)),
)


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Every bit pattern can occur, NaN included: a conversion must not look at the values."""
    generator = torch.Generator().manual_seed(seed)
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integer)
    return torch.randint(info.min, info.max, shape, generator=generator, dtype=integer).view(dtype)


def assert_same_bits(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert (tensor.dtype, tensor.shape) == (right[name].dtype, right[name].shape), name
        assert torch.equal(tensor.contiguous().view(torch.uint8), right[name].contiguous().view(torch.uint8)), name


@settings(deadline=None, max_examples=40)
@given(configs, dtypes, st.integers(0, 2**31))
def test_mimo_round_trips_are_bit_identical(config: ModelConfig, dtype: torch.dtype, seed: int) -> None:
    operations = mimo.mimo_ops(config)
    for shapes, there, back in (
        (mimo.megatron_shapes(config), ops.to_hugging_face, ops.to_megatron),
        (mimo.hugging_face_shapes(config), ops.to_megatron, ops.to_hugging_face),
    ):
        start = {name: random_bits(shape, dtype, seed + i) for i, (name, shape) in enumerate(shapes.items())}
        converted = dict(there(operations, start.__getitem__))
        assert_same_bits(start, dict(back(operations, converted.__getitem__)))


@settings(deadline=None, max_examples=20)
@given(configs)
def test_every_name_is_used_exactly_once(config: ModelConfig) -> None:
    operations = mimo.mimo_ops(config)
    for side, shapes in (
        ("megatron", mimo.megatron_shapes(config)),
        ("hugging_face", mimo.hugging_face_shapes(config)),
    ):
        names = [name for op in operations for name in getattr(op, side)]
        assert sorted(names) == sorted(shapes)


def test_qkv_is_fused_group_by_group() -> None:
    """Two groups of two heads of size one, named by hand."""
    op = ops.FusedQKV(("qkv",), ("q", "k", "v"), num_query_groups=2, heads_per_group=2)
    labels = ["q0", "q1", "k0", "v0", "q2", "q3", "k1", "v1"]
    fused = torch.arange(8)[:, None]
    q, k, v = op.to_hugging_face([fused])
    assert [[labels[i] for i in part[:, 0].tolist()] for part in (q, k, v)] == [
        ["q0", "q1", "q2", "q3"],
        ["k0", "k1"],
        ["v0", "v1"],
    ]


def test_gate_is_above_up_and_the_mtp_projection_swaps_its_halves() -> None:
    gate, up = ops.FusedGateUp(("fc1",), ("gate", "up")).to_hugging_face([torch.arange(6)[:, None]])
    assert (gate[:, 0].tolist(), up[:, 0].tolist()) == ([0, 1, 2], [3, 4, 5])
    (swapped,) = ops.SwappedHalves(("eh",), ("input",)).to_hugging_face([torch.tensor([[1, 2, 3, 4]])])
    assert swapped.tolist() == [[3, 4, 1, 2]]


@given(st.integers(1, 20), st.integers(0, 20), sizes)
def test_vocabulary_padding_is_zero_and_comes_off_again(rows: int, padding: int, columns: int) -> None:
    op = ops.PaddedVocabulary(("m",), ("h",), rows=rows, padded_rows=rows + padding)
    weight = random_bits((rows, columns), torch.float32, seed=rows)
    (padded,) = op.to_megatron([weight])
    assert padded.shape == (rows + padding, columns)
    assert not padded[rows:].any()
    assert_same_bits({"h": weight}, {"h": op.to_hugging_face([padded])[0]})


def test_shape_check_names_every_tensor_at_fault() -> None:
    with pytest.raises(UserError) as error:
        ops.check_shapes({"a": (1,), "c": (3, 4)}, {"a": (2,), "b": (5,)}, "the checkpoint")
    text = str(error.value)
    for problem in ("missing   b [5]", "extra     c [3, 4]", "misshaped a: [1], the model needs [2]"):
        assert problem in text
    ops.check_shapes({"a": (1,)}, {"a": (1,)}, "the checkpoint")
