"""Python values as JSON and back: what crosses from the solution's process to the examiner's is plain data or a handle.

A value read back is an exact builtin, so `==` on it is Python's own: a solution's `__eq__` stays in its own process.
"""

import itertools
import json
import os
from collections.abc import Callable
from typing import Any

MAX_BYTES = 1 << 28
MAX_ITERATOR = 1_000_000
TEXT_KINDS = {"Decimal": "decimal", "Fraction": "fractions"}
"""Values that their text makes again, by the module that has them."""
DATES = ("datetime", "date", "time", "timedelta")
TYPES = {
    kind.__name__: kind for kind in (bool, bytes, complex, dict, float, frozenset, int, list, object, set, str, tuple)
}


def encode(value: Any, handle: Callable[[Any], Any]) -> Any:
    """JSON-ready form; what is no plain data goes through `handle`, which returns something JSON-ready."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item, handle) for item in value]
    for name, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {name: [encode(item, handle) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, handle), encode(item, handle)] for key, item in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if (kind := type(value).__name__) in TEXT_KINDS and type(value).__module__ == TEXT_KINDS[kind]:
        return {kind: str(value)}
    if type(value).__module__ == "datetime" and kind in DATES and getattr(value, "tzinfo", None) is None:
        return {kind: date_fields(value)}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if kind == "deque" and type(value).__module__ == "collections":
        return {"deque": [encode(item, handle) for item in value]}
    if kind in ("dict_keys", "dict_values", "dict_items"):
        return [encode(item, handle) for item in value]
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, type):
        return {"type": value.__name__} if TYPES.get(value.__name__) is value else handle(value)
    if hasattr(value, "tolist"):
        return encode(value.tolist(), handle)
    if hasattr(value, "__next__"):
        return [encode(item, handle) for item in itertools.islice(value, MAX_ITERATOR)]
    return handle(value)


def decode(data: Any, resolve: Callable[[int], Any]) -> Any:
    """Inverse of encode; handles become `resolve(number)`. Raises ValueError for what encode cannot have written."""
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise ValueError("not the form of a value")
    ((name, content),) = data.items()
    if name in ("tuple", "set", "frozenset"):
        kind = {"tuple": tuple, "set": set, "frozenset": frozenset}[name]
        return kind(decode(item, resolve) for item in content)
    if name == "dict":
        return {decode(key, resolve): decode(item, resolve) for key, item in content}
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "complex":
        return complex(*content)
    if name in TEXT_KINDS:
        return getattr(__import__(TEXT_KINDS[name]), name)(str(content))
    if name in DATES:
        return getattr(__import__("datetime"), name)(*map(int, content))
    if name == "range":
        return range(*map(int, content))
    if name == "deque":
        return __import__("collections").deque(decode(item, resolve) for item in content)
    if name == "type" and content in TYPES:
        return TYPES[content]
    if name == "handle":
        return resolve(int(content))
    raise ValueError(f"unknown kind of value {name!r}")


def date_fields(value: Any) -> list[int]:
    """The numbers that the constructor of a date or time takes, in its order."""
    if hasattr(value, "total_seconds"):
        return [value.days, value.seconds, value.microseconds]
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return [getattr(value, name) for name in names if hasattr(value, name)]


def send(fd: int, message: dict) -> None:
    """Write one message: four bytes of length, then JSON."""
    data = json.dumps(message).encode()
    view = memoryview(len(data).to_bytes(4, "little") + data)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> dict:
    """Read one message. Raises EOFError when the other side is gone, ValueError for anything but a JSON object."""
    length = int.from_bytes(read_exactly(fd, 4), "little")
    if length > MAX_BYTES:
        raise ValueError(f"a message of {length} bytes")
    message = json.loads(read_exactly(fd, length))
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise EOFError("the other process is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
