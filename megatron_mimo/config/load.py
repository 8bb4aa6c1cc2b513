"""YAML files and command-line overrides <-> configuration dataclasses. The one module that knows tyro and dacite.

`load(PretrainConfig, ["run.yaml", "model.num_layers=4"])` reads the file strictly (unknown keys, wrong types and
impossible combinations raise ConfigError) and applies `key=value` or `--key value` overrides, list items included
(`stages.0.tokens=1e9`).
"""

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from megatron_mimo.config.errors import ConfigError, UserError

Config = TypeVar("Config")


def load(config_class: type[Config], arguments: list[str]) -> Config:
    """Build `config_class` from `[FILE, override, ...]`; raises UserError with the file and key at fault."""
    if not arguments:
        raise UserError(f"usage: CONFIG.yaml [key=value ...]   (the keys are those of {config_class.__name__})")
    path, overrides = Path(arguments[0]), arguments[1:]
    tree = read_yaml(path)
    for override in overrides:
        apply_override(tree, override)
    return from_tree(config_class, tree, source=str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises UserError when the file is missing, malformed or not a mapping."""
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of keys to values")
    return tree


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key (`stages.0.seq_length=256`) in a raw YAML tree; the value is read as YAML."""
    key, sign, text = override.removeprefix("--").partition("=")
    if not sign or not key:
        raise UserError(f"cannot read the override {override!r}: write key=value, for example model.num_layers=4")
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, override)
    value = yaml.safe_load(text)
    if isinstance(node, list):
        node[_list_index(node, last, override)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, part, override)]
    child = node.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise UserError(f"cannot apply the override {override!r}: {part!r} holds a single value")
    return child


def _list_index(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"cannot apply the override {override!r}: {part!r} is not one of 0..{len(node) - 1}")
    return int(part)


def from_tree(config_class: type[Config], tree: dict[str, Any], source: str) -> Config:
    """Build the dataclass from a raw tree; raises UserError naming `source` and the key."""
    _check_keys(config_class, tree, source, prefix="")
    casts = dacite.Config(strict=True, type_hooks={int: _to_int, float: _to_float})
    try:
        return dacite.from_dict(config_class, tree, casts)
    except ConfigError as error:
        raise UserError(f"{source}: {error}") from error
    except dacite.MissingValueError as error:
        raise UserError(f"{source}: config error: {error.field_path} is missing; it has no default") from error
    except dacite.WrongTypeError as error:
        expected = getattr(error.field_type, "__name__", str(error.field_type))
        raise UserError(
            f"{source}: config error: {error.field_path} = {error.value!r}: expected {expected}"
        ) from error
    except ValueError as error:
        raise UserError(f"{source}: config error: {error}") from error


def _check_keys(config_class: Any, tree: Any, source: str, prefix: str) -> None:
    """Name the first key that no field has, with the nearest one that exists."""
    hints = typing.get_type_hints(config_class)
    for key, value in tree.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known keys: {', '.join(sorted(hints))}"
            raise UserError(f"{source}: config error: unknown key {prefix}{key} = {value!r}{hint}")
        for nested in _dataclasses_in(hints[key]):
            items = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, item in items:
                if isinstance(item, dict):
                    where = f"{prefix}{key}." if index is None else f"{prefix}{key}.{index}."
                    _check_keys(nested, item, source, where)


def _dataclasses_in(annotation: Any) -> list[Any]:
    if dataclasses.is_dataclass(annotation):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _dataclasses_in(part)]


def _to_int(value: Any) -> Any:
    """YAML reads 84e9 as text and 84.0e+9 as a float: both are whole numbers here."""
    if isinstance(value, str):
        value = _to_float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{value!r} is not a whole number")
        return int(value)
    return value


def _to_float(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    return float(value) if isinstance(value, int | str) else value


def to_yaml(config: Any) -> str:
    """The resolved configuration as YAML that `load` reads back to an equal object."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
