"""A resolved configuration as YAML with the place that each value came from: `--print-config`."""

import dataclasses
from typing import Any

import yaml

from megatron_mimo.config.layers import Layers, node_leaves, tree_leaves

DEFAULT, DECIDED = "default", "decided by the program"
LONGEST_COLUMN = 60


def explained_yaml(given: Any, resolved: Any, layers: Layers) -> str:
    """YAML of `resolved` that can be loaded again; a comment says where each value came from: file, override, default.

    `given`: the configuration as it was loaded; where `resolved` differs from it the program has decided.
    """
    text = yaml.safe_dump(dataclasses.asdict(resolved), sort_keys=False, width=100_000)
    lines, before = text.splitlines(), dict(tree_leaves(dataclasses.asdict(given)))
    now = dict(tree_leaves(dataclasses.asdict(resolved)))
    column = min(LONGEST_COLUMN, max(map(len, lines)) + 2)
    for key, node in node_leaves(yaml.compose(text, yaml.SafeLoader)):
        number = node.start_mark.line
        if number != node.end_mark.line:
            continue  # a value of several lines has no room for a comment
        place = layers.origin(key) or DEFAULT
        if before.get(key) != now.get(key):
            place = f"{DECIDED}; given: {place}"
        lines[number] = f"{lines[number]:<{column}}# {place}"
    return "\n".join(lines) + "\n"
