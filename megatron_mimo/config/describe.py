"""Every setting of a configuration with its type, default, unit, section of the report and text, from the dataclasses.

The one source of `--help KEY`, of the JSON schemas and of any page of keys: nothing is written twice.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

REPORT_SECTION = re.compile(r"[Rr]eport,? \(?sections? (\d+(?:\.\d+)*)")
ITEM = "*"
"""In a dotted key: any item of a list."""
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_UNITS = (
    ("_per_second", "{} per second"),
    ("_per_million_prompt_tokens", "price per million prompt tokens"),
    ("_per_million_completion_tokens", "price per million completion tokens"),
    ("_tflops_per_gpu", "TFLOP/s"),
    ("tokens", "tokens"),
    ("seq_length", "tokens"),
    ("seconds", "seconds"),
    ("bytes", "bytes"),
    ("steps", "steps"),
    ("_groups", "groups"),
    ("batch_size", "sequences"),
    ("_ratio", "a share from 0 to 1"),
    ("_share", "a share from 0 to 1"),
)
"""Endings of names and what such a setting is counted in."""


@dataclass(frozen=True)
class Setting:
    """One key of a configuration."""

    key: str
    """Dotted; `*` stands for any item of a list."""
    kind: str
    """What may be written, in words."""
    default: str | None
    """As YAML; None: it must be given, or is a section."""
    unit: str
    section: str
    """Of the technical report; empty where the report says nothing."""
    text: str
    is_section: bool
    """A mapping of further keys."""


def settings_of(config_class: Any, prefix: str = "") -> Iterator[Setting]:
    """All settings of a configuration dataclass, sections before the keys in them.

    The report's section is the one that the setting's own text names, else that of the class it belongs to.
    """
    hints, texts = typing.get_type_hints(config_class), field_texts(config_class)
    section = _report_section(inspect.getdoc(config_class) or "")
    for field in dataclasses.fields(config_class):
        if not field.init:
            continue
        key, text = f"{prefix}{field.name}", texts.get(field.name, "")
        inner, is_list = inner_class(hints[field.name])
        about = text or (inspect.getdoc(inner) or "" if inner else "")
        yield Setting(
            key=key,
            kind=in_words(hints[field.name]),
            default=None if inner and not is_list else default_text(field),
            unit=_unit(field.name, hints[field.name]),
            section=_report_section(about) or section,
            text=" ".join(about.split()),
            is_section=inner is not None,
        )
        if inner is not None:
            yield from settings_of(inner, f"{key}.{ITEM}." if is_list else f"{key}.")


def inner_class(annotation: Any) -> tuple[Any, bool]:
    """(the dataclass in an annotation or None, whether it is the item of a list)."""
    if dataclasses.is_dataclass(annotation):
        return annotation, False
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return inner_class(arguments[0])
    if origin in (list, tuple):
        return inner_class(arguments[0])[0], True
    return None, False


def dataclasses_in(config_class: Any) -> dict[Any, None]:
    """The dataclass and all that its fields hold, in order."""
    found: dict[Any, None] = {config_class: None}
    for annotation in typing.get_type_hints(config_class).values():
        inner, _ = inner_class(annotation)
        if inner is not None:
            found |= dataclasses_in(inner)
    return found


def in_words(annotation: Any) -> str:
    """What may be written for a type, as the errors of config/load.py say it."""
    if dataclasses.is_dataclass(annotation):
        return "a section"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return f"{in_words(arguments[0])}, or null"
    if origin in (list, tuple):
        return f"a list, each item {in_words(arguments[0])}"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    return _NAMES.get(annotation, "a mapping of keys to values")


def default_text(field: dataclasses.Field[Any]) -> str | None:
    """The default as YAML on one line; None where there is none."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return None
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@functools.cache
def field_texts(config_class: type) -> dict[str, str]:
    """The text under each field, those of base classes included."""
    texts: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                value = below.value.value if is_text else None  # type: ignore[union-attr]
                texts[field.target.id] = inspect.cleandoc(value) if isinstance(value, str) else ""
    return texts


def _unit(name: str, annotation: Any) -> str:
    """What a number is counted in, by the ending of its name."""
    kinds = {annotation, *typing.get_args(annotation)}
    if not kinds & {int, float} or name.startswith("num_"):
        return ""
    for ending, unit in _UNITS:
        if name == ending.removeprefix("_") or name.endswith(ending):
            words = name.removesuffix(ending).rsplit("_", 1)[-1]
            return unit.format(words)
    return ""


def _report_section(text: str) -> str:
    found = REPORT_SECTION.search(text)
    return found.group(1) if found else ""
