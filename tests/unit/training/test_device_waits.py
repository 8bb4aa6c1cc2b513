"""A training step waits for the device at a few known places: everywhere else the CPU runs ahead and queues kernels.

Counted on the CPU, where nothing has to be waited for: operators that hand a tensor's content to the program, and
methods that copy tensors to the host.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from support.tiny import tiny_config, tiny_tree, write_run

pytest.importorskip("megatron.core")

STEPS = 3
WAITS = {
    "training.step:_reduce": "the losses of all micro-batches, in one copy",
    "megatron.core.distributed.finalize_model_grads:finalize_model_grads": "whether any token counts",
    "megatron.core.optimizer.clip_grads:get_grad_norm_fp32": "the gradient's norm, which the guard judges",
}
"""Place of each wait, once in a step, and what for. All three stand at the end of the backward pass."""
FALLBACK = {
    "megatron.core.utils:local_multi_tensor_l2_norm": "takes the place of a kernel of Transformer Engine or Apex",
}
"""Waits where neither is installed, as here."""
ON_THE_HOST = {
    "training.feed:batches": "rows that the loader has read",
    "training.batch:document_bounds": "the same",
    "training.step:by_depth": "numbers that _reduce has copied",
    "training.step:by_source": "the same",
    "training.step:tokens_by_source": "the same",
    "megatron.core.transformer.attention:custom_forward": "a mask's number that recomputation keeps in a CPU tensor",
}
"""Places that read tensors which never were on the device."""

OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")
METHODS = ("cpu", "numpy", "tolist", "__array__")


def place() -> str:
    """module:function of the innermost frame that belongs to this project or to megatron-core."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        parts = Path(frame.f_code.co_filename).with_suffix("").parts
        for package in ("megatron_mimo", "megatron"):
            if package in parts and "platform" not in parts:
                names = parts[len(parts) - parts[::-1].index(package) - 1 :]
                module = ".".join(names[1:] if package == "megatron_mimo" else names)
                return f"{module}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


class Operators(TorchDispatchMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_", "index_put") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in OPERATORS or by_mask:
            self.seen[place()] += 1
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if getattr(func, "__name__", "") in METHODS and func is getattr(torch.Tensor, func.__name__, None):
            self.seen[place()] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts waits by place."""
    seen: Counter[str] = Counter()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: seen.update([place()]))
    with Operators(seen), Methods(seen):
        yield seen


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: int(x[0]),
        lambda x: float(x[0]),
        lambda x: 1 if x.any() else 0,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: torch.equal(x, x),
        lambda x: x[: x[2]],
        lambda x: torch.cuda.synchronize(),
    ],
)
def test_every_way_to_wait_is_seen(wait: Callable[[torch.Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.arange(4)
    with watched(monkeypatch) as seen:
        wait(tensor)
    assert seen.total() >= 1


def test_ordinary_work_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, rows = torch.ones(8, 4, requires_grad=True), torch.arange(8).view(2, 4)
    with watched(monkeypatch) as seen:
        states = torch.nn.functional.embedding(rows, weight)
        mask = rows > 2
        ((states @ weight.t()).masked_fill(mask[..., None], 0.0).sum() / mask.sum()).backward()
        weight.detach()[rows[0]] += 1
    assert not seen


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": {"dtype": "fp32", "cross_entropy": "chunked"}, "parallel": {"recompute": "selective"}},
        {"precision": {"dtype": "bf16"}, "parallel": {"recompute": "full"}, "packs": True},
    ],
    ids=["plain", "chunked heads, selective recomputation", "bf16, recomputation, packed documents"],
)
def test_a_step_waits_at_the_known_places_alone(
    settings: dict[str, Any], tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megatron_mimo.training import batch
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.probe import one_process
    from megatron_mimo.training.trainer import Trainer
    from megatron_mimo.training.training_data import PretrainingData

    if settings.get("packs"):
        monkeypatch.setattr(batch, "choose_document_attention", lambda *_: "packed")
    tree = tiny_tree(tiny_data, tmp_path / "run") | {"max_steps": STEPS}
    tree |= {key: value for key, value in settings.items() if key != "packs"}
    write_run(tmp_path, tree)
    config = tiny_config(tree)
    seen: Counter[str] = Counter()

    class Watched(Trainer):
        """Everything between the start of a step and the start of the next; evaluation and checkpoints left out."""

        def _train_step(self, feed: Any) -> str:
            with watched(monkeypatch) as counted:
                verdict = super()._train_step(feed)
            seen.update(counted)
            return verdict

    with one_process():
        Watched(config, PretrainingData(config, tmp_path), Callback()).fit()
    waits = {where: count for where, count in seen.items() if where not in ON_THE_HOST}
    assert waits == dict.fromkeys(WAITS | FALLBACK, STEPS)
