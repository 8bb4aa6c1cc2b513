"""A resolved configuration as YAML with the place that each value came from: `--print-config`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import yaml

from megatron_mimo.config.layers import Layers

DEFAULT, DECIDED = "default", "decided by the program"
LONGEST_COLUMN = 60


def explained_yaml(given: Any, resolved: Any, layers: Layers) -> str:
    """YAML of `resolved` that can be loaded again; a comment says where each value came from: file, override, default.

    `given`: the configuration as it was loaded; where `resolved` differs from it the program has decided.
    """
    text = yaml.safe_dump(dataclasses.asdict(resolved), sort_keys=False, width=100_000)
    lines, before = text.splitlines(), dict(_leaves(dataclasses.asdict(given), ""))
    now = dict(_leaves(dataclasses.asdict(resolved), ""))
    column = min(LONGEST_COLUMN, max(map(len, lines)) + 2)
    for key, number in _lines(yaml.compose(text, yaml.SafeLoader), ""):
        place = layers.origin(key) or DEFAULT
        if before.get(key) != now.get(key):
            place = f"{DECIDED}; given: {place}"
        lines[number] = f"{lines[number]:<{column}}# {place}"
    return "\n".join(lines) + "\n"


def _lines(node: yaml.Node | None, key: str) -> Iterator[tuple[str, int]]:
    """(dotted key, line from 0) of the values that end on the line on which they begin."""
    prefix = f"{key}." if key else ""
    if isinstance(node, yaml.MappingNode) and node.value:
        for name, value in node.value:
            yield from _lines(value, f"{prefix}{name.value}")
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for index, item in enumerate(node.value):
            yield from _lines(item, f"{prefix}{index}")
    elif node is not None and node.start_mark.line == node.end_mark.line:
        yield key, node.start_mark.line


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    prefix = f"{key}." if key else ""
    if isinstance(value, dict | list | tuple) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{prefix}{name}")
    else:
        yield key, value
