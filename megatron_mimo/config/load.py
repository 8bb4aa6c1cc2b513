"""YAML files and command-line overrides <-> configuration dataclasses.

`load(PretrainConfig, ["run.yaml", "model.num_layers=4"])` reads the file strictly (unknown or missing keys, wrong
types and impossible combinations raise UserError) and applies `key=value` or `--key=value` overrides, list items
included (`stages.0.tokens=1e9`). Every error names where the value came from, its dotted key, and what would do.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from megatron_mimo.config.errors import ConfigError, UserError

Config = TypeVar("Config")

IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text (put a number in quotes)"}
IN_WORDS |= {list: "a list", dict: "a mapping of keys to values"}


def load(config_class: type[Config], arguments: list[str]) -> Config:
    """Build `config_class` from `[FILE, override, ...]`; raises UserError naming file or override and key."""
    if not arguments:
        raise UserError(f"usage: CONFIG.yaml [key=value ...]   (the keys are those of {config_class.__name__})")
    path, overrides = Path(arguments[0]), arguments[1:]
    tree = read_yaml(path)
    for override in overrides:
        apply_override(tree, override)
    return from_tree(config_class, tree, source=str(path), overrides=overrides)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises UserError when the file is missing, malformed or not a mapping."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of keys to values")
    return tree


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; a configuration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key (`stages.0.seq_length=256`) in a raw YAML tree; the value is read as YAML."""
    key, sign, text = override.removeprefix("--").partition("=")
    if not sign or not key:
        raise UserError(f"cannot read the override {override!r}: write key=value, for example model.num_layers=4")
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, override)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"cannot read the override {override!r}: its value is not valid YAML") from error
    node[_list_index(node, last, override) if isinstance(node, list) else last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_list_index(node, part, override)]
    else:
        child = node[part] = {} if node.get(part) is None else node[part]
    if not isinstance(child, dict | list):
        raise UserError(f"cannot apply the override {override!r}: {part!r} holds a single value")
    return child


def _list_index(node: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"cannot apply the override {override!r}: {part!r} is not one of 0..{len(node) - 1}")
    return int(part)


def from_tree(config_class: type[Config], tree: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> Config:
    """Build the dataclass from a raw tree; raises UserError naming the key and `source` or override."""
    try:
        return _build(config_class, tree, "")
    except UserError as error:
        fault = error.key if isinstance(error, ConfigError) else ""
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
    prefix, hints = f"{key}." if key else "", typing.get_type_hints(config_class)
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
