"""Settings under the names of earlier versions: they are read, and the present name is said.

A dataclass lists them in its class variable `RENAMED`, old name -> present name. docs/settings.md has the table.
"""

import typing
from collections.abc import Iterator
from typing import Any

from megatron_mimo.config.describe import inner_class
from megatron_mimo.config.errors import ConfigError
from megatron_mimo.config.notices import say_once


def with_present_names(config_class: Any, tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Rename keys in a raw tree in place; yields (old, present) dotted keys, and says each once per process.

    Raises ConfigError where both names are given.
    """
    if not isinstance(tree, dict):
        return
    renamed = old_names(config_class)
    for old in [name for name in tree if name in renamed]:
        new = renamed[old]
        if new in tree:
            raise ConfigError(f"{prefix}{old}", tree[old], f"is the old name of {prefix}{new}, which is given too")
        items = [(new if name == old else name, value) for name, value in tree.items()]
        tree.clear()
        tree.update(items)
        say_once(f"{prefix}{old} is now called {prefix}{new}")
        yield f"{prefix}{old}", f"{prefix}{new}"
    for name, annotation in typing.get_type_hints(config_class).items():
        inner, is_list = inner_class(annotation)
        if inner is None or tree.get(name) is None:
            continue
        if is_list and isinstance(tree[name], list):
            for index, item in enumerate(tree[name]):
                yield from with_present_names(inner, item, f"{prefix}{name}.{index}.")
        elif not is_list:
            yield from with_present_names(inner, tree[name], f"{prefix}{name}.")


def with_present_key(config_class: Any, override: str) -> str:
    """The override `key=value` with the present names of what its key names."""
    key, sign, value = override.partition("=")
    parts, found, here = key.removeprefix("--").split("."), [], config_class
    for part in parts:
        new = part if here is None else old_names(here).get(part, part)
        if here is not None and not part.isdecimal():
            annotation = typing.get_type_hints(here).get(new)
            here = None if annotation is None else inner_class(annotation)[0]
        if new != part:
            say_once(f"{'.'.join([*found, part])} is now called {'.'.join([*found, new])}")
        found.append(new)
    return override if found == parts else ".".join(found) + sign + value


def old_names(config_class: Any) -> dict[str, str]:
    """Old name -> present name of the settings of one dataclass."""
    return getattr(config_class, "RENAMED", {})
