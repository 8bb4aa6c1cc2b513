"""The solution's side of an assert test: says which names it defines, then runs the calls the examiner asks for."""

import sys
import types
from typing import Any

from . import plain_data


class Handles:
    """Objects that are no plain data stay here; the other side holds their numbers."""

    def __init__(self) -> None:
        self._objects: list[Any] = []

    def encode(self, value: Any) -> Any:
        return plain_data.encode(value, self._keep)

    def decode(self, data: Any) -> Any:
        return plain_data.decode(data, self._objects.__getitem__)

    def _keep(self, value: Any) -> dict:
        self._objects.append(value)
        return {"handle": len(self._objects) - 1}


def serve(channel: int, namespace: dict) -> None:
    """Answer until the examiner is gone."""
    sys.set_int_max_str_digits(0)
    handles = Handles()
    plain_data.send(channel, exported(namespace, handles))
    while True:
        try:
            request = plain_data.receive(channel)
        except EOFError:
            return
        plain_data.send(channel, answer(request, namespace, handles))


def exported(namespace: dict, handles: Handles) -> dict:
    """Names by kind: functions and classes, modules (alias -> name), values."""
    public = {name: value for name, value in namespace.items() if not name.startswith("__")}
    modules = {name: value.__name__ for name, value in public.items() if isinstance(value, types.ModuleType)}
    functions = [name for name, value in public.items() if callable(value)]
    values = {name: value for name, value in public.items() if name not in modules and name not in functions}
    return {"functions": functions, "modules": modules, "values": [[k, handles.encode(v)] for k, v in values.items()]}


def answer(request: dict, namespace: dict, handles: Handles) -> dict:
    """Do one call or attribute look-up. Positional arguments go back too: a function may change them in place."""
    try:
        if "new_value" in request:
            setattr(handles.decode(request["of"]), request["attribute"], handles.decode(request["new_value"]))
            return {"value": None}
        if "attribute" in request:
            return {"value": handles.encode(getattr(handles.decode(request["of"]), request["attribute"]))}
        target = namespace[request["name"]] if "name" in request else handles.decode(request["of"])
        arguments = handles.decode(request["arguments"])
        result = target(*arguments, **dict(handles.decode(request["keywords"])))
        return {"value": handles.encode(result), "arguments": handles.encode(arguments)}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)[:1000]}
