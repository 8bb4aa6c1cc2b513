"""The solution's side of an assert test: says which names it defines, then runs the calls the examiner asks for."""

import builtins
import operator
import sys
import types
from typing import Any

from . import plain_data


class Callback:
    """A function of the test program, called there: the solution's process waits for its result."""

    def __init__(self, number: int, channel: int, handles: "Handles") -> None:
        self._number, self._channel, self._handles = number, channel, handles

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        encode = self._handles.encode
        request = {"callback": self._number, "arguments": encode(arguments), "keywords": encode(keywords)}
        plain_data.send(self._channel, request)
        reply = plain_data.receive(self._channel)
        if "error" in reply:
            raise getattr(builtins, reply["error"], RuntimeError)(reply["text"])
        return self._handles.decode(reply["value"])


class Handles:
    """Objects that are no plain data stay here; the other side holds their numbers, and negative ones are its own."""

    def __init__(self, channel: int = -1) -> None:
        self._objects: list[Any] = []
        self._channel = channel

    def encode(self, value: Any) -> Any:
        return plain_data.encode(value, self._keep)

    def decode(self, data: Any) -> Any:
        return plain_data.decode(data, self._resolve)

    def _resolve(self, number: int) -> Any:
        return self._objects[number] if number >= 0 else Callback(number, self._channel, self)

    def _keep(self, value: Any) -> dict:
        self._objects.append(value)
        return {"handle": len(self._objects) - 1}


def serve(channel: int, namespace: dict) -> None:
    """Answer until the examiner is gone."""
    sys.set_int_max_str_digits(0)
    handles = Handles(channel)
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
            owner = namespace[request["name"]] if "name" in request else handles.decode(request["of"])
            return {"value": handles.encode(getattr(owner, request["attribute"]))}
        if "instance_of" in request:
            return {"value": isinstance(handles.decode(request["of"]), namespace[request["instance_of"]])}
        if "operator" in request:
            values = handles.decode(request["arguments"])
            return {"value": handles.encode(getattr(operator, request["operator"])(*values))}
        if "name_of_builtin" in request:
            target = getattr(builtins, request["name_of_builtin"])
        else:
            target = namespace[request["name"]] if "name" in request else handles.decode(request["of"])
        arguments = handles.decode(request["arguments"])
        result = target(*arguments, **dict(handles.decode(request["keywords"])))
        if isinstance(result, types.CoroutineType):
            import asyncio

            return {"awaitable": handles.encode(asyncio.run(result)), "arguments": handles.encode(arguments)}
        return {"value": handles.encode(result), "arguments": handles.encode(arguments)}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)[:1000]}
