"""JSON schemas of the configurations, with which editors complete keys, show their text and mark mistakes.

Types and defaults come from msgspec, texts from config/describe.py. `required` is left out: what a file does not say
may come from its `base`, and the loader names what is missing in the end.
"""

import inspect
from typing import Any

import msgspec

from megatron_mimo.config.describe import dataclasses_in, field_texts

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SPELLED_NUMBER = {"type": "string", "pattern": r"^[-+]?[0-9._]+([eE][-+]?[0-9]+)?$"}
"""1_200_000, which YAML 1.2 takes for a text; the loader reads it as a number."""
FILE_KEYS = {
    "base": {
        "type": "string",
        "description": "Another file of this kind, relative to this one: its values hold where this file says nothing.",
    }
}
"""Keys of files that are no settings."""


def json_schema(config_class: Any, title: str) -> dict[str, Any]:
    """The schema of files that `load(config_class, ...)` reads."""
    schema = msgspec.json.schema(config_class)
    classes = {found.__name__: found for found in dataclasses_in(config_class)}
    for name, definition in schema["$defs"].items():
        texts = field_texts(classes[name])
        definition["description"] = inspect.getdoc(classes[name]) or ""
        definition["additionalProperties"] = False
        definition.pop("required", None)
        for key, value in definition["properties"].items():
            definition["properties"][key] = _with_spelled_numbers(value) | _description(texts.get(key, ""))
    root = schema["$defs"].pop(config_class.__name__)
    root["properties"] = FILE_KEYS | root["properties"]
    return {"$schema": DIALECT} | root | {"title": title, "$defs": schema["$defs"]}


def _description(text: str) -> dict[str, str]:
    return {"description": text} if text else {}


def _with_spelled_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """The same property, where a number may be written in any way that the loader reads."""
    if value.get("type") in ("integer", "number"):
        rest = {key: value[key] for key in ("default",) if key in value}
        return {"anyOf": [{key: found for key, found in value.items() if key != "default"}, SPELLED_NUMBER]} | rest
    if "anyOf" in value and any(each.get("type") in ("integer", "number") for each in value["anyOf"]):
        return value | {"anyOf": [*value["anyOf"], SPELLED_NUMBER]}
    return value
