"""What is asked of Transformer Engine, with stand-ins for its parts: settings of layers, the fused loss, FP8
weights."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from megatron_mimo.config import ConfigError, ParallelConfig, PrecisionConfig, PretrainConfig, load

pytest.importorskip("megatron.core")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (PrecisionConfig, {"fp8_parameters": True}, "needs a precision.fp8_recipe"),
        (
            PrecisionConfig,
            {"fp8_parameters": True, "fp8_recipe": "tensorwise", "fp8_emulation": True, "backend": "torch"},
            "is not emulated",
        ),
        (PrecisionConfig, {"fp8_parameters": True, "fp8_recipe": "mxfp8"}, "is not built"),
        (PrecisionConfig, {"cross_entropy": "fused", "backend": "torch"}, "whole or chunked"),
        (PrecisionConfig, {"fuse_gradient_accumulation": True, "backend": "torch"}, "set it to false"),
        (PrecisionConfig, {"gradient_dtype": "bf16", "dtype": "fp32"}, "set it to fp32"),
        (ParallelConfig, {"overlap_tensor_parallel": True}, "sequence_parallel"),
        (ParallelConfig, {"recompute_num_layers": 4}, "recompute=full"),
        (ParallelConfig, {"recompute_num_layers": 0, "recompute": "full"}, "1 or more"),
    ],
)
def test_impossible_combinations_name_the_way_out(kind: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kind(**settings)


def test_a_chunk_has_as_many_layers_as_are_recomputed() -> None:
    from support.models import MIMO_7B

    ParallelConfig(recompute="full", recompute_num_layers=9, pipeline_model_parallel_size=4).check_against(MIMO_7B)
    parallel = ParallelConfig(recompute="full", recompute_num_layers=10, pipeline_model_parallel_size=4)
    with pytest.raises(ConfigError, match="chunk has 9 layers"):
        parallel.check_against(MIMO_7B)


def test_torch_layers_refuse_what_is_transformer_engines() -> None:
    """Also where `backend: auto` came to them."""
    from megatron_mimo.model.spec import check_engine_options

    overlap = ParallelConfig(tensor_model_parallel_size=2, sequence_parallel=True, overlap_tensor_parallel=True)
    for parallel, precision, key in (
        (ParallelConfig(), PrecisionConfig(cross_entropy="fused"), "precision.cross_entropy = 'fused'"),
        (ParallelConfig(), PrecisionConfig(fuse_gradient_accumulation=True), "fuse_gradient_accumulation"),
        (overlap, PrecisionConfig(), "parallel.overlap_tensor_parallel"),
    ):
        with pytest.raises(ConfigError, match=key):
            check_engine_options(parallel, precision, "torch")
        check_engine_options(parallel, precision, "transformer_engine")


def test_settings_reach_megatron_core() -> None:
    from megatron_mimo.model.build import transformer_config
    from support.models import MIMO_7B

    precision = PrecisionConfig(dtype="bf16", fp8_recipe="tensorwise", fp8_parameters=True, cross_entropy="fused")
    parallel = ParallelConfig(recompute="full", recompute_num_layers=12)
    config = transformer_config(MIMO_7B, parallel, precision, "torch")
    assert (config.fp8, config.fp8_recipe, config.fp8_param) == ("hybrid", "tensorwise", True)
    assert (config.cross_entropy_loss_fusion, config.cross_entropy_fusion_impl) == (True, "te")
    assert (config.recompute_method, config.recompute_num_layers) == ("block", 12)
    # Of Transformer Engine's layers alone: engine_linear.py.
    assert config.gradient_accumulation_fusion is False
    plain = transformer_config(MIMO_7B, ParallelConfig(recompute="full"), PrecisionConfig(dtype="bf16"), "torch")
    assert (plain.recompute_method, plain.recompute_num_layers, plain.fp8) == ("uniform", 1, None)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformer_engine's loss in its form since 2.20: [s, b, v] and [s, b] to [s, b]; it wants plain strides."""
    module: Any = ModuleType("transformer_engine.pytorch.cross_entropy")
    module.calls = []

    def parallel_cross_entropy(
        inp, target, label_smoothing=0.0, reduce_loss=False, dist_process_group=None, *, overwrite_input=False
    ):
        assert target.stride(-1) == 1
        module.calls.append((reduce_loss, dist_process_group, overwrite_input))
        losses = F.cross_entropy(inp.flatten(0, 1).float(), target.flatten(), reduction="none")
        return losses.view(target.shape)

    module.parallel_cross_entropy = parallel_cross_entropy
    parent: Any = ModuleType("transformer_engine.pytorch")
    parent.cross_entropy = module
    monkeypatch.setitem(sys.modules, "transformer_engine", ModuleType("transformer_engine"))
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch", parent)
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch.cross_entropy", module)
    return module


@pytest.mark.parametrize("b", [1, 3])
def test_the_fused_loss_is_cross_entropy_in_place(engine: Any, b: int) -> None:
    from megatron_mimo.model.engine_loss import fused_cross_entropy

    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, b, 7, generator=generator), torch.randint(0, 7, (b, 5), generator=generator)
    expected = F.cross_entropy(logits.permute(1, 2, 0), labels, reduction="none")
    torch.testing.assert_close(fused_cross_entropy(logits, labels), expected)
    assert engine.calls == [(False, None, True)]


def test_layers_get_settings_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared configuration stays as it is; the MTP projection never overlaps; names stay those of the layers."""
    from megatron_mimo.platform import cpu

    cpu.install()
    import megatron.core.extensions.transformer_engine as extension

    class Layer:
        def __init__(self, size: int, *, config: Any) -> None:
            self.size, self.config = size, config

    names = ("TELayerNormColumnParallelLinear", "TEColumnParallelLinear", "TERowParallelLinear")
    for name in names:
        monkeypatch.setattr(extension, name, type(name, (Layer,), {}), raising=False)
    monkeypatch.delitem(sys.modules, "megatron_mimo.model.engine_linear", raising=False)
    from megatron_mimo.model.engine_linear import linear_layers

    shared = SimpleNamespace(gradient_accumulation_fusion=False, tp_comm_overlap=True, hidden_size=8)
    for fuse in (False, True):
        layers = linear_layers(fuse)
        assert tuple(layers) == names and [layer.__name__ for layer in layers.values()] == list(names)
        made = {name: layer(3, config=shared) for name, layer in layers.items()}
        assert {layer.config.gradient_accumulation_fusion for layer in made.values()} == {fuse}
        overlaps = {name: layer.config.tp_comm_overlap for name, layer in made.items()}
        assert overlaps == {name: name != "TEColumnParallelLinear" for name in names}
    assert vars(shared) == {"gradient_accumulation_fusion": False, "tp_comm_overlap": True, "hidden_size": 8}
    monkeypatch.delitem(sys.modules, "megatron_mimo.model.engine_linear", raising=False)


class FP8Weight(torch.Tensor):
    """As Transformer Engine's: rounds what it takes, its pieces are copies, and it brings its first value along."""

    @staticmethod
    def of(first: torch.Tensor) -> Any:
        weight: Any = first.clone().as_subclass(FP8Weight)
        weight.first = first.clone()
        weight.get_high_precision_init_val = lambda: weight.first
        return weight

    def copy_(self, src: torch.Tensor, non_blocking: bool = False) -> "FP8Weight":
        rounded = src.to(torch.float8_e4m3fn).float()
        self.as_subclass(torch.Tensor).copy_(rounded)
        return self


@pytest.fixture
def fp8_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_mimo.model import fp8_parameters

    monkeypatch.setattr(fp8_parameters, "is_float8tensor", lambda tensor: isinstance(tensor, FP8Weight))


def test_an_fp8_weight_begins_from_what_was_written(fp8_weights: None) -> None:
    """Its rounded value, and the exact one of which the optimizer makes its fp32 copy: not the random first one."""
    from megatron_mimo.model.fp8_parameters import filled_in_high_precision

    weight, values = FP8Weight.of(torch.randn(4, 6)), torch.randn(4, 6)
    shard = SimpleNamespace(data=weight)
    with filled_in_high_precision(shard):
        # A weight of two factors is filled in two pieces, which must be views.
        for piece, part in zip(shard.data.chunk(2), values.chunk(2), strict=True):
            piece.copy_(part)
    assert shard.data is weight
    torch.testing.assert_close(weight.first, values)
    plain = weight.as_subclass(torch.Tensor)
    assert not torch.equal(plain, values)
    torch.testing.assert_close(plain, values, rtol=0.07, atol=0.01)


def test_loaded_weights_reach_the_exact_value(fp8_weights: None) -> None:
    from megatron_mimo.model.fp8_parameters import load_weights_exactly

    weight, values = FP8Weight.of(torch.randn(3, 5)), torch.randn(3, 5)
    module: Any = SimpleNamespace(
        load_state_dict=lambda state, strict: weight.copy_(state["weight"]),
        named_parameters=lambda: [("weight", weight)],
    )
    load_weights_exactly(module, {"weight": values, "weight._extra_state": None})
    torch.testing.assert_close(weight.first, values)


def test_buffers_have_the_shape_of_the_stages_states(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """T = b x s / CP, as every layer sees it; a second stage's take the place of the first's."""
    from megatron_mimo.training.user_buffers import prepare_user_buffers

    said: list[Any] = []
    module: Any = ModuleType("transformer_engine.pytorch.module")
    module.base = SimpleNamespace(
        destroy_ub=lambda: said.append("destroyed"), initialize_ub=lambda **named: said.append(named)
    )
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch.module", module)
    sizes = "tensor_model_parallel_size: 2, context_parallel_size: 2"
    cut = f"{{{sizes}, sequence_parallel: true, overlap_tensor_parallel: true}}"
    config = load(PretrainConfig, ["examples/mimo_7b/pretrain.yaml", f"parallel={cut}", f"stages.2.parallel={cut}"])
    for stage in (config.stages[0], config.stages[2]):
        prepare_user_buffers(config, stage)
    shapes = [call["shape"] for call in said if call != "destroyed"]
    assert shapes == [[4096, 4096], [16384, 4096]] and said[2] == "destroyed"
    prepare_user_buffers(load(PretrainConfig, ["examples/mimo_7b/pretrain.yaml"]), config.stages[0])
    assert len(said) == 4
