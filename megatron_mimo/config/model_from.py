"""`model: {from: CHECKPOINT}`: the shape of the model from the checkpoint that a run starts from.

Keys beside `from` change single values, such as `mtp_num_layers: 3` for two more MTP layers. `from: start.checkpoint`
takes the checkpoint that the setting of this name holds, an override included.
"""

from collections.abc import Callable
from typing import Any

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.config.layers import Layers

FROM = "from"
ModelOf = Callable[[str, str | None], dict[str, Any]]
"""(a checkpoint or a folder of them, the run's output_dir) -> the settings of its model. Raises UserError."""


def fill_in_model(layers: Layers, model_of: ModelOf | None) -> None:
    """Replace `model.from` by the settings of that checkpoint's model; raises UserError where there is none."""
    model = layers.tree.get("model")
    if not isinstance(model, dict) or FROM not in model:
        return
    place = layers.origin(f"model.{FROM}")
    path = _named(layers.tree, model[FROM])
    if model_of is None:
        raise UserError(
            f"{place}: config error: model.{FROM} = {path!r}: this command reads no checkpoint; write the model's keys"
        )
    found = model_of(path, layers.tree.get("output_dir"))
    changes = {name: value for name, value in model.items() if name != FROM}
    layers.tree["model"] = found | changes
    layers.origins.pop(f"model.{FROM}")
    layers.origins |= {f"model.{name}": f"{path}, named at {place}" for name in found if name not in changes}


def _named(tree: dict[str, Any], value: Any) -> str:
    """The path itself, or the value of the key that it names."""
    if value == "start.checkpoint":
        start = tree.get("start")
        value = start.get("checkpoint") if isinstance(start, dict) else None
        if not isinstance(value, str):
            raise UserError(
                str(ConfigError(f"model.{FROM}", "start.checkpoint", "start.checkpoint is not set: set it"))
            )
    if not isinstance(value, str):
        raise UserError(str(ConfigError(f"model.{FROM}", value, "name a checkpoint, or start.checkpoint")))
    return value
