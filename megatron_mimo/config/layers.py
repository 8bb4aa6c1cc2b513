"""A configuration file with its `base` files and the overrides on top, and the place that each value came from.

`base: FILE` names another file of the same kind, relative to the one that says so. Its values hold where this file says
nothing: mappings are merged key by key, everything else, lists included, is replaced as a whole.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config.errors import ConfigError, UserError

BASE = "base"
RELATIVE_KEYS = ("mixture",)
"""Settings that are paths relative to the file that names them; all others are relative to the present folder."""


@dataclass
class Layers:
    """Files and overrides as one raw tree."""

    tree: dict[str, Any]
    origins: dict[str, str]
    """Dotted key of each single value, of empty lists and of empty mappings -> `FILE:LINE`, or `override KEY=VALUE`."""

    def override(self, text: str) -> None:
        """Apply `key=value` or `--key=value`; raises UserError where it cannot be read or applied."""
        key, value = apply_override(self.tree, text)
        _forget(self.origins, key)
        self.origins |= {found: f"override {text}" for found, _ in tree_leaves(value, key)}

    def rename(self, old: str, new: str) -> None:
        """Origins of the values below a key that has got another name."""
        moved = {key: place for key, place in self.origins.items() if key == old or key.startswith(f"{old}.")}
        _forget(self.origins, old)
        self.origins |= {new + key.removeprefix(old): place for key, place in moved.items()}

    def origin(self, key: str) -> str | None:
        """Where the value of a dotted key came from, of a section the first of its values; None: it was not given."""
        inside = (place for found, place in self.origins.items() if found.startswith(f"{key}."))
        return self.origins.get(key) or next(inside, None)


def read_layers(path: Path, above: tuple[Path, ...] = ()) -> Layers:
    """A file and its bases. Raises UserError for what is missing, malformed, or a base of itself."""
    if path.resolve() in above:
        raise UserError(f"{path}: {BASE} leads back to a file that is being read: {above[-1]} names it")
    tree, node = _parse(path)
    own = Layers(tree, {key: f"{path}:{leaf.start_mark.line + 1}" for key, leaf in node_leaves(node) if key != BASE})
    base = tree.pop(BASE, None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise UserError(str(ConfigError(BASE, base, f"name one file, relative to {path}")))
    below = read_layers(Path(os.path.normpath(path.parent / base)), (*above, path.resolve()))
    _rebase(below.tree, os.path.relpath((path.parent / base).parent, path.parent))
    _merge(below, own)
    return below


def read_merged(path: Path) -> dict[str, Any]:
    """The raw tree of a configuration file and its bases; raises UserError."""
    return read_layers(path).tree


def _merge(below: Layers, own: Layers) -> None:
    """Put the values of `own` over those of `below`."""

    def put(target: dict[str, Any], tree: dict[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            if isinstance(value, dict) and value and isinstance(target.get(name), dict):
                put(target[name], value, f"{prefix}{name}.")
            else:
                target[name] = value
                _forget(below.origins, f"{prefix}{name}")

    put(below.tree, own.tree, "")
    below.origins |= own.origins


def _forget(origins: dict[str, str], key: str) -> None:
    for known in [known for known in origins if known == key or known.startswith(f"{key}.")]:
        del origins[known]


def _rebase(tree: Any, folder: str) -> None:
    """Make the paths that are relative to a file in `folder` relative to where `folder` itself is relative to."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name in RELATIVE_KEYS and isinstance(value, str) and not os.path.isabs(value) and folder != ".":
                tree[name] = os.path.normpath(os.path.join(folder, value))
            _rebase(value, folder)
    elif isinstance(tree, list):
        for value in tree:
            _rebase(value, folder)


def tree_leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of the single values in a tree, and of empty lists and mappings; `key`: the tree's own."""
    prefix = f"{key}." if key else ""
    if isinstance(value, dict | list | tuple) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tree_leaves(item, f"{prefix}{name}")
    else:
        yield key, value


def node_leaves(node: yaml.Node, key: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """The same for the nodes that YAML text was composed to: they know the lines on which a value begins and ends."""
    prefix = f"{key}." if key else ""
    if isinstance(node, yaml.MappingNode) and node.value:
        for name, value in node.value:
            yield from node_leaves(value, f"{prefix}{name.value}")
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for index, item in enumerate(node.value):
            yield from node_leaves(item, f"{prefix}{index}")
    else:
        yield key, node


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises UserError when the file is missing, malformed or not a mapping."""
    return _parse(path)[0]


def _parse(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    """(the mapping that a file holds, its node with the lines)."""
    try:
        loader = _UniqueKeyLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        tree = None if node is None else loader.construct_document(node)
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if node is None or not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of keys to values")
    return tree, node


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; a configuration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def apply_override(tree: dict[str, Any], override: str) -> tuple[str, Any]:
    """Set one dotted key (`stages.0.seq_length=256`) in a raw YAML tree; the value is read as YAML.

    Returns the key and the value. Raises UserError where the override cannot be read or applied.
    """
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
    return key, value


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
