"""Every branch of the training path that only CUDA takes, and the test that forces it on a CPU.

The first run on a GPU shall meet code that has run. A new branch fails here until it is listed, with the test that
enters it, or with the reason why nothing on a CPU can.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "megatron_mimo"
ROOMS = ("config", "model", "plan", "platform", "training", "gpu_checks", "rl")
CHECKS_OF_A_DEVICE = ("gpu_checks.", "rl.device_check")
"""Run on whatever is there, and compare both."""

OVERLAP = "tests/distributed/test_overlap.py"
ENGINE = "tests/unit/training/test_engine_like.py"
HERE = "tests/unit/training/test_cuda_branches.py"
FORCED = {
    "config.precision.__post_init__": (
        "tests/unit/config/test_impossible_settings.py::test_emulated_fp8_needs_torch_layers"
    ),
    "plan.activations._attention_core_tensors": (
        "tests/unit/model/test_memory.py::test_layer_is_the_papers_34_sbh_without_dropout_masks"
    ),
    "model.build.transformer_config": f"{OVERLAP}::test_every_saved_byte_is_the_same",
    "model.chunked_cross_entropy._kernel": f"{HERE}::test_a_kernel_is_compiled_once",
    "model.gpt._losses": (
        "tests/distributed/test_parallel_equality.py::test_every_layout_gives_the_losses_of_one_process"
    ),
    "model.packed_documents.choose_document_attention": (
        f"{ENGINE}::test_packed_rows_of_a_micro_batch_learn_as_masked_ones"
    ),
    "model.spec.check_engine_options": (
        "tests/unit/model/test_engine_options.py::test_torch_layers_refuse_what_is_transformer_engines"
    ),
    "model.spec.choose_backend": f"{HERE}::test_backends_are_chosen_by_what_is_there",
    "model.torch_layers.forward": (
        "tests/distributed/test_parallel_equality.py::test_every_layout_gives_the_losses_of_one_process"
    ),
    "plan.workload.gathers_keys": (
        "tests/unit/model/test_communication.py::test_context_parallel_ring_hides_behind_attention_and_gather_does_not"
    ),
    "platform.number_format.best_format": f"{HERE}::test_a_gpu_says_which_format_it_multiplies",
    "platform.number_format.inference_dtype": f"{HERE}::test_a_gpu_says_which_format_it_multiplies",
    "platform.number_format.slow_bf16_warning": f"{HERE}::test_a_gpu_says_which_format_it_multiplies",
    "rl.weight_broadcast._process_group": "tests/unit/rl/test_weight_broadcast.py::test_a_group_ends_with_its_transfer",
    "training.batch.document_attention": f"{HERE}::test_a_recursive_layer_is_refused_with_the_engine",
    "training.batch.moved_to_device": f"{HERE}::test_a_batch_is_moved_whole",
    "training.measure.memory_bytes": f"{HERE}::test_memory_is_that_of_the_device",
    "training.optimizer.wrap_data_parallel": f"{OVERLAP}::test_losses_and_gradients_do_not_change",
    "training.trainer.chosen_backends": f"{HERE}::test_the_environment_report_names_the_engine",
}
"""Function with the branch -> test. Not found by name, but forced too: the states of Transformer Engine's norms and FP8
layers, its optimizer's groups and another device's random states (test_engine_like.py), several rows of documents by
their bounds and freed pipeline outputs (test_overlap.py)."""
PLACEMENT = "only says where tensors and processes are"
OUT_OF_REACH = {
    "platform.cpu.__torch_function__": "acts without CUDA alone",
    "platform.cpu.install": "acts without CUDA alone",
    "platform.cpu.keep_compiler_out": "acts without CUDA alone",
    "platform.cpu.keep_freed_memory": "acts without CUDA alone",
    "platform.environment._communication": PLACEMENT,
    "platform.environment._nccl_version": PLACEMENT,
    "platform.environment.environment_report": PLACEMENT,
    "rl.vllm_engine._start": "starts vLLM on a GPU: tests/integration/test_rollout_engine.py does on the CPU",
    "training.distributed._initialize_process_group": "names NCCL",
    "training.distributed.distributed": PLACEMENT,
    "training.probe.one_process": "the back end of a GPU's process group",
    "training.straggler._synchronize": "waits for a device",
    "training.straggler.probe_seconds": "a product that takes a CPU minutes",
    "training.trainer._record": PLACEMENT,
}
"""Function with the branch -> why no CPU can enter it, or need not."""


def asks_for_a_device(node: ast.AST) -> bool:
    """Whether an expression asks for CUDA, or for the layers that only run there."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "torch.cuda.is_available"
    if isinstance(node, ast.Compare):
        text = ast.unparse(node)
        return "'transformer_engine'" in text or (".type" in text and ("'cuda'" in text or "'cpu'" in text))
    return isinstance(node, ast.Attribute) and node.attr == "is_cuda"


def branches(tree: ast.AST, function: str = "") -> Iterator[str]:
    """Names of the functions that ask."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if asks_for_a_device(node):
            yield inside
        yield from branches(node, inside)


def test_every_branch_is_listed() -> None:
    found = set()
    for room in ROOMS:
        for path in (PACKAGE / room).rglob("*.py"):
            module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            if not module.startswith(CHECKS_OF_A_DEVICE):
                found |= {f"{module}.{function}" for function in branches(ast.parse(path.read_text()))}
    assert found == FORCED.keys() | OUT_OF_REACH.keys()
    assert not FORCED.keys() & OUT_OF_REACH.keys()


@pytest.mark.parametrize("test", sorted(set(FORCED.values())))
def test_every_named_test_exists(test: str) -> None:
    path, name = test.split("::")
    defined = [
        node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
    ]
    assert name in defined


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that says it has a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_recursive_layer_is_refused_with_the_engine() -> None:
    from megatron_mimo.config import ConfigError
    from megatron_mimo.training.batch import document_attention
    from support.tiny import tiny_config, tiny_tree

    tree = tiny_tree(Path("data"), Path("run"))
    tree["model"] |= {"mtp_num_layers": 1, "mtp_recursive_steps": 3}
    config = tiny_config(tree)
    with pytest.raises(ConfigError, match=r"precision\.backend=torch"):
        document_attention(config, config.stages[0], "transformer_engine")
    assert document_attention(config, config.stages[0], "torch") == "mask"


def test_a_batch_is_moved_whole(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("megatron.core")
    from megatron_mimo.training.batch import make_batch, to_device

    pinned: list[torch.Tensor] = []
    moved: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    def remember(tensor: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        assert non_blocking and tensor is pinned[-1]
        moved.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "cuda", remember)
    rows = {"tokens": torch.arange(18).view(2, 9), "source": torch.zeros(2, dtype=torch.long)}
    # One row of documents has the bounds of its queries and of its keys.
    for attention, tensors in (("ignore", 5), ("mask", 6), ("packed", 5 + 2)):
        moved.clear()
        to_device(make_batch(dict(rows), 1, 3, attention))
        assert len(moved) == tensors


def test_memory_is_that_of_the_device(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_mimo.training.measure import memory_bytes

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 12345)
    assert memory_bytes() == 12345


@pytest.mark.parametrize(
    ("wanted", "has_engine", "has_gpu", "chosen"),
    [
        ("auto", True, True, "transformer_engine"),
        ("auto", True, False, "torch"),
        ("auto", False, True, "torch"),
        ("torch", True, True, "torch"),
        ("transformer_engine", True, True, "transformer_engine"),
        ("transformer_engine", True, False, None),
        ("transformer_engine", False, True, None),
    ],
)
def test_backends_are_chosen_by_what_is_there(
    wanted: Any, has_engine: bool, has_gpu: bool, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("megatron.core")
    from megatron_mimo.config import ConfigError, PrecisionConfig
    from megatron_mimo.model import spec

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(spec.importlib.util, "find_spec", lambda name: object() if has_engine else None)
    if chosen is None:
        with pytest.raises(ConfigError, match=r"precision\.backend"):
            spec.choose_backend(PrecisionConfig(backend=wanted))
    else:
        assert spec.choose_backend(PrecisionConfig(backend=wanted))[0] == chosen


def test_a_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_mimo.model import chunked_cross_entropy

    class OnAGpu:
        is_cuda = True

    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compiled.append(function) or function)
    monkeypatch.setattr(chunked_cross_entropy, "_compiled", {})
    tensor: Any = OnAGpu()
    assert chunked_cross_entropy._kernel(len, tensor) is len
    assert chunked_cross_entropy._kernel(len, tensor) is len
    assert compiled == [len]


def test_the_environment_report_names_the_engine() -> None:
    pytest.importorskip("megatron.core")
    from types import SimpleNamespace

    from megatron_mimo.config import PrecisionConfig
    from megatron_mimo.training.trainer import Trainer

    part = SimpleNamespace(optimizer=torch.optim.AdamW([torch.zeros(1)]))
    config = SimpleNamespace(precision=PrecisionConfig())
    trainer: Any = SimpleNamespace(backend="transformer_engine", backend_reason="", optimizer=part, config=config)
    chosen = Trainer.chosen_backends(trainer)
    assert "Transformer Engine" in chosen["attention"] and "Transformer Engine" in chosen["norm"]


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_gpu_says_which_format_it_multiplies(has_bf16: bool, cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_mimo.platform.number_format import best_format, inference_dtype, slow_bf16_warning

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old GPU")
    assert best_format().dtype == ("bf16" if has_bf16 else "fp32")
    assert slow_bf16_warning() is None
    assert inference_dtype("torch.bfloat16") == "bfloat16"
