"""The model that tells matter from frame: a few small networks that see a block and its neighbours, run with numpy.

    h = relu(a x)                       per block
    s = tanh(b h)                       per block: what its neighbours see of it
    z = relu(c [s of 9 blocks around])
    logit = o [h, z]                    the mean over the networks, which differ in their random start

Its numbers are in `block_model.npz`, made by `python -m megatron_mimo.data.extract.block_training FOLDER`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from megatron_mimo.data.extract.block_features import COLUMNS
from megatron_mimo.data.extract.block_names import NameWeights

MODEL_FILE = Path(__file__).with_name("block_model.npz")
LIMIT = 5.0
"""Features are cut off at so many standard deviations."""
WINDOW = 9
"""Blocks in a window: odd."""


@dataclass(frozen=True, eq=False)
class BlockModel:
    """Matrices are `[networks, inputs, outputs]`, biases `[networks, 1, outputs]`."""

    mean: np.ndarray
    scale: np.ndarray
    weights: dict[str, np.ndarray]
    names: NameWeights

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[num_blocks]: above 0 where a block is rather matter than frame."""
        w = self.weights
        x = np.clip((features - self.mean) * self.scale, -LIMIT, LIMIT)
        h = np.maximum(x @ w["a"] + w["a_bias"], 0)
        shared = np.tanh(h @ w["b"] + w["b_bias"])
        shared = np.concatenate([shared, np.zeros_like(shared[:, :1])], axis=1)
        num_networks, num_blocks = h.shape[:2]
        around = shared[:, window_places(num_blocks)].reshape(num_networks, num_blocks, -1)
        z = np.maximum(around @ w["c"] + w["c_bias"], 0)
        return (np.concatenate([h, z], axis=2) @ w["o"] + w["o_bias"]).mean(axis=0)[:, 0]


def window_places(num_blocks: int) -> np.ndarray:
    """[num_blocks, WINDOW]: the places of the blocks around each one; -1 beyond the ends."""
    places = np.arange(num_blocks)[:, None] + np.arange(-(WINDOW // 2), WINDOW // 2 + 1)
    return np.where(places < num_blocks, places, -1).clip(min=-1)


def read_model(path: Path) -> BlockModel:
    """Read a model file; raises ValueError when it was made for other features."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    columns = [str(name) for name in arrays.pop("columns")]
    if columns != COLUMNS:
        raise ValueError(f"{path} was trained on other features; train it anew with block_training")
    names = {
        str(name): float(weight) for name, weight in zip(arrays.pop("names"), arrays.pop("name_weights"), strict=True)
    }
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    return BlockModel(arrays.pop("mean"), arrays.pop("scale"), arrays, NameWeights(names))


def write_model(model: BlockModel, path: Path) -> None:
    """Write a model file under a temporary name, then rename it."""
    names = sorted(model.names.weights)
    temporary = path.with_suffix(".tmp.npz")
    weights: dict[str, Any] = {name: value.astype(np.float16) for name, value in model.weights.items()}
    np.savez_compressed(
        temporary,
        columns=np.array(COLUMNS),
        names=np.array(names),
        name_weights=np.array([model.names.weights[name] for name in names], np.float16),
        mean=model.mean,
        scale=model.scale,
        **weights,
    )
    temporary.replace(path)


@cache
def block_model() -> BlockModel:
    """The model of the package."""
    return read_model(MODEL_FILE)
