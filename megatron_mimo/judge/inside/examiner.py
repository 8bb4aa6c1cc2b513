"""The process that runs an assert test. It has none of the solution's code; it calls its functions.

Exit code: 0 the test program ran to its end, 10 an assertion failed, 11 anything else. The solution's
process can only answer with plain data or an ordinary exception, so it can neither end nor alter this one.
"""

import builtins
import os
import sys
import traceback
from typing import Any

from . import plain_data, program

PASSED, ASSERTION_FAILED, FAILED = 0, 10, 11


class RemoteError(Exception):
    """The solution raised something that is no builtin exception, or broke the protocol."""


class Remote:
    """An object of the solution that is no plain data. It equals nothing but itself."""

    def __init__(self, number: int, solution: "RemoteSolution") -> None:
        self.__dict__.update(_number=number, _solution=solution)

    def __setattr__(self, name: str, value: Any) -> None:
        self._solution.set_attribute(self._number, name, value)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._solution.call({"of": {"handle": self._number}}, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._solution.attribute(self._number, name)

    def __len__(self) -> int:
        return int(self.__getattr__("__len__")())

    def __getitem__(self, key: Any) -> Any:
        return self.__getattr__("__getitem__")(key)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self.__getattr__("__str__")())


class RemoteFunction:
    """A function or class of the solution, by name."""

    def __init__(self, name: str, solution: "RemoteSolution") -> None:
        self.__name__, self._solution = name, solution

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._solution.call({"name": self.__name__}, arguments, keywords)


class RemoteSolution:
    """The solution behind descriptor `channel`."""

    def __init__(self, channel: int) -> None:
        self._channel = channel

    def names(self, entry_points: list[str]) -> dict[str, Any]:
        """What the solution defines. Builtins are not overridden by it, except the names it is asked to define."""
        exported = plain_data.receive(self._channel)
        found: dict[str, Any] = {}
        for alias, module in exported["modules"].items():
            if module in sys.stdlib_module_names or module == "numpy":
                found[alias] = __import__(module, fromlist=["_"])
        found |= {name: self._decode(value) for name, value in exported["values"]}
        found |= {name: RemoteFunction(name, self) for name in exported["functions"]}
        return {name: value for name, value in found.items() if name in entry_points or not hasattr(builtins, name)}

    def call(self, target: dict, arguments: tuple, keywords: dict) -> Any:
        form = [self._encode(argument) for argument in arguments]
        reply = self._ask(target | {"arguments": form, "keywords": self._encode(keywords)})
        for argument, after in zip(arguments, self._decode(reply["arguments"]), strict=True):
            update_in_place(argument, after)
        return self._decode(reply["value"])

    def attribute(self, number: int, name: str) -> Any:
        return self._decode(self._ask({"of": {"handle": number}, "attribute": name})["value"])

    def set_attribute(self, number: int, name: str, value: Any) -> None:
        self._ask({"of": {"handle": number}, "attribute": name, "new_value": self._encode(value)})

    def _ask(self, request: dict) -> dict:
        plain_data.send(self._channel, request)
        reply = plain_data.receive(self._channel)
        if "error" in reply:
            kind = getattr(builtins, str(reply["error"]), None)
            # Only ordinary exceptions: SystemExit or KeyboardInterrupt would be a way to end the examiner.
            if isinstance(kind, type) and issubclass(kind, Exception) and kind is not UnicodeDecodeError:
                raise build_exception(kind, str(reply["text"]))
            raise RemoteError(f"{reply['error']}: {reply['text']}")
        return reply

    def _encode(self, value: Any) -> Any:
        return plain_data.encode(value, handle_of)

    def _decode(self, data: Any) -> Any:
        return plain_data.decode(data, lambda number: Remote(number, self))


def handle_of(value: Any) -> dict:
    if isinstance(value, Remote):
        return {"handle": value._number}
    raise RemoteError(f"a test cannot pass a {type(value).__name__} to the solution")


def build_exception(kind: type[Exception], text: str) -> Exception:
    try:
        return kind(text)
    except TypeError:
        return RemoteError(f"{kind.__name__}: {text}")


def update_in_place(argument: Any, after: Any) -> None:
    """Give a list, dict or set the contents that the call left in it."""
    if type(argument) is not type(after) or argument == after:
        return
    if isinstance(argument, list):
        argument[:] = after
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(after)


def run(message: dict) -> None:
    """Run the test program on descriptor 0. Never returns."""
    sys.set_int_max_str_digits(0)
    os._exit(examine(program.read_all(program.STDIN).decode(), message["entry_points"], message["prelude_length"]))


def examine(text: str, entry_points: list[str], prelude_length: int) -> int:
    try:
        names = RemoteSolution(program.CHANNEL).names(entry_points)
        namespace = {"__name__": "__main__", "__builtins__": builtins, **names}
        exec(compile(text[:prelude_length], "prelude.py", "exec", dont_inherit=True), namespace)
        if prelude_length:
            namespace |= {name: names[name] for name in entry_points if name in names}
        exec(compile(text[prelude_length:], "test.py", "exec", dont_inherit=True), namespace)
    except SystemExit as error:
        return FAILED if error.code else PASSED
    except AssertionError:
        traceback.print_exc()
        return ASSERTION_FAILED
    except BaseException:
        traceback.print_exc()
        return FAILED
    return PASSED
