"""What modules keep in a checkpoint beside their weights, as `_extra_state`: scales of Transformer Engine's FP8 layers.

Transformer Engine writes the scales of delayed scaling as a Python pickle, and its newer versions refuse to read one,
for a pickle can run any program. Here every pickle is first read by a reader that knows nothing but tensors, numbers
and Transformer Engine's recipes; what passes is what Transformer Engine may read.
"""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config import UserError

SUFFIX = "_extra_state"
ALLOW_PICKLE = "NVTE_ALLOW_UNSAFE_PICKLE_EXTRA_STATE"
"""Transformer Engine's variable; set only while states that were examined are loaded."""
RECIPES = "transformer_engine.common.recipe"
HARMLESS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    # megatron-core's own class of Transformer Engine's recipe, which is what its layers are trained with.
    ("megatron.core.extensions.transformer_engine", "TEDelayedScaling"),
}


def is_module_state(name: str) -> bool:
    """Whether a key of a model's state is no weight."""
    return name.rsplit(".", 1)[-1].startswith(SUFFIX)


@contextmanager
def examined_states(state: dict[str, Any], place: str) -> Iterator[None]:
    """Within it Transformer Engine reads the pickled module states of the model state `state`, loaded from `place`.

    Raises UserError where one holds anything but tensors, numbers and recipes.
    """
    for name, value in state.items():
        if is_module_state(name) and isinstance(value, Tensor) and value.numel():
            _examine(name, value, place)
    before = os.environ.get(ALLOW_PICKLE)
    os.environ[ALLOW_PICKLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ALLOW_PICKLE]
        else:
            os.environ[ALLOW_PICKLE] = before


def _examine(name: str, value: Tensor, place: str) -> None:
    try:
        _PlainUnpickler(io.BytesIO(value.detach().cpu().numpy().tobytes())).load()
    except Exception as error:
        raise UserError(
            f"{place}: the FP8 state {name} is not one of Transformer Engine's: {error}\n"
            "It is a Python pickle, which could run any program, and is not read. Take a checkpoint that this program"
            " wrote, or load its weights alone: start.checkpoint, with precision.fp8_recipe=none."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Tensors, containers and recipe classes; nothing that could act."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return super().find_class(module, name)
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_plain
        if module == RECIPES and "." not in name:
            found = super().find_class(module, name)
            # The module's own imports are within reach of its name, and are none of its classes.
            if isinstance(found, type) and found.__module__ == RECIPES:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is neither a tensor nor a recipe")


def _load_plain(data: bytes) -> Any:
    """A tensor's storage; torch's own function for it would unpickle anything."""
    return torch.load(io.BytesIO(data), weights_only=True)
