"""YAML files and command-line overrides <-> configuration dataclasses.

`load(PretrainConfig, ["run.yaml", "model.num_layers=4"])` reads the file strictly (unknown or missing keys, wrong
types and impossible combinations raise UserError) and applies `key=value` or `--key=value` overrides, list items
included (`stages.0.tokens=1e9`). A file may build on another one, `base: FILE` (config/layers.py). Every error names
where the value came from, its dotted key, and what would do.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.config.layers import Layers, apply_override, read_layers, read_yaml
from megatron_mimo.config.model_from import ModelOf, fill_in_model
from megatron_mimo.config.renamed import with_present_key, with_present_names

__all__ = ["apply_override", "from_tree", "load", "load_with_origins", "read_yaml", "to_yaml"]

Config = TypeVar("Config")

IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text (put a number in quotes)"}
IN_WORDS |= {list: "a list", dict: "a mapping of keys to values"}


def load(config_class: type[Config], arguments: list[str], model_of: ModelOf | None = None) -> Config:
    """Build `config_class` from `[FILE, override, ...]`; raises UserError naming file or override and key."""
    return load_with_origins(config_class, arguments, model_of)[0]


def load_with_origins(
    config_class: type[Config], arguments: list[str], model_of: ModelOf | None = None
) -> tuple[Config, Layers]:
    """The configuration, and the raw values with the places they came from. `model_of` reads `model: {from: PATH}`."""
    if not arguments:
        raise UserError(f"usage: CONFIG.yaml [key=value ...]   (the keys are those of {config_class.__name__})")
    path = Path(arguments[0])
    overrides = [with_present_key(config_class, override) for override in arguments[1:]]
    layers = read_layers(path)
    for override in overrides:
        layers.override(override)
    fill_in_model(layers, model_of)
    return from_tree(config_class, layers.tree, str(path), overrides, layers), layers


def from_tree(
    config_class: type[Config],
    tree: dict[str, Any],
    source: str,
    overrides: Sequence[str] = (),
    layers: Layers | None = None,
) -> Config:
    """Build the dataclass from a raw tree; raises UserError naming the key and the override or `source`.

    `layers` adds the place in a base that the value came from.
    """
    try:
        for old, new in with_present_names(config_class, tree):
            if layers is not None:
                layers.rename(old, new)
        return _build(config_class, tree, "")
    except UserError as error:
        fault = error.key if isinstance(error, ConfigError) else ""
        place = (layers.origin(fault) or "") if layers is not None and fault else ""
        if place and not place.startswith((f"{source}:", "override ")):
            source = f"{source} ({place})"
        for override in overrides:
            key = override.removeprefix("--").partition("=")[0]
            if f"{fault}.".startswith(f"{key}.") or f"{key}.".startswith(f"{fault}."):
                source = f"override {override}"
        raise UserError(f"{source}: {error}") from error


def _build(annotation: Any, value: Any, key: str) -> Any:
    """The value as the annotated type; `key` is its dotted place in the file."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        return _build_dataclass(annotation, _cast(dict, value, key), key)
    if origin in (typing.Union, types.UnionType):
        # The one kind of union in the configuration is `X | None`.
        return None if value is None else _build(arguments[0], value, key)
    if origin is list:
        return [_build(arguments[0], item, f"{key}.{index}") for index, item in enumerate(_cast(list, value, key))]
    if origin is tuple:  # of any length, which YAML writes as a list
        return tuple(_build(list[arguments[0]], list(value) if isinstance(value, tuple) else value, key))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(key, value, f"expected one of {', '.join(map(str, arguments))}")
        return value
    return _cast(annotation, value, key)


def _build_dataclass(config_class: Any, tree: dict[str, Any], key: str) -> Any:
    prefix, hints = f"{key}." if key else "", _hints(config_class)
    for name, value in tree.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(sorted(hints))}"
            raise ConfigError(f"{prefix}{name}", value, f"unknown key; {hint}")
    for field in dataclasses.fields(config_class):
        if field.init and field.name not in tree and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"config error: {prefix}{field.name} is missing; it has no default")
    values = {name: _build(hints[name], value, f"{prefix}{name}") for name, value in tree.items()}
    try:
        return config_class(**values)
    except ConfigError as error:
        # The dataclass does not know which list item it is.
        if not error.key.startswith(key):
            error.args = (f"{error} (in {key})",)
        raise


def _hints(config_class: Any) -> dict[str, Any]:
    """Types of the settings; class variables are none."""
    hints = typing.get_type_hints(config_class)
    return {name: hint for name, hint in hints.items() if hint is not ClassVar}


def _cast(annotation: type, value: Any, key: str) -> Any:
    """The value itself, or as the number asked for; raises ConfigError in words for anything else."""
    if annotation in (int, float):
        number = _to_number(value)
        if number is not None and (annotation is float or number == int(number)):
            return annotation(number)
    elif isinstance(value, annotation):
        return value
    raise ConfigError(key, value, f"expected {IN_WORDS[annotation]}")


def _to_number(value: Any) -> float | None:
    """The finite number, or None. PyYAML reads 84e9 as text and 84.0e+9 as a float: both are numbers here."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number


def to_yaml(config: Any) -> str:
    """The resolved configuration as YAML that `load` reads back to an equal object."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
