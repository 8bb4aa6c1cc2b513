"""Which shapes vLLM serves, against the installed vLLM's own lists."""

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from megatron_mimo.config import ModelConfig
from megatron_mimo.model.serving import CPU_HEAD_SIZES, serving_limits, serving_warning

NANO = ModelConfig(
    num_layers=4,
    hidden_size=256,
    ffn_hidden_size=640,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=64,
    vocab_size=2048,
)


def test_a_shape_that_vllm_serves_is_not_mentioned() -> None:
    assert serving_limits(NANO) == [] and serving_warning(NANO) is None


def test_heads_that_do_not_make_up_the_hidden_size() -> None:
    warning = serving_warning(replace(NANO, hidden_size=250))
    assert warning is not None and "\n" not in warning
    for part in ("hidden_size=250", "kv_channels x num_attention_heads == hidden_size", "cannot be served"):
        assert part in warning


@pytest.mark.parametrize(("size", "where"), [(48, "on CPUs"), (52, "anywhere"), (512, "on GPUs")])
def test_heads_of_a_size_that_has_no_kernel(size: int, where: str) -> None:
    (limit,) = serving_limits(replace(NANO, kv_channels=size, hidden_size=4 * size))
    assert f"kv_channels={size} {where}" in limit


def test_the_sizes_are_those_of_the_installed_vllm() -> None:
    """Read from its source: importing vLLM takes seconds."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("vLLM is not installed")
    source = Path(found.submodule_search_locations[0]) / "v1" / "attention" / "backends" / "cpu_attn.py"
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes":
            statement = node.body[-1]
            assert isinstance(statement, ast.Return) and statement.value is not None
            assert tuple(ast.literal_eval(statement.value)) == CPU_HEAD_SIZES
            return
    pytest.fail(f"{source} no longer lists head sizes")
