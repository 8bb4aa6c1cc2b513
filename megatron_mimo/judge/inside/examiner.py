"""The process that runs an assert test. It has none of the solution's code; it calls its functions.

Exit code: 0 the test program ran to its end, 10 an assertion failed, 11 anything else. The solution's
process can only answer with plain data or an ordinary exception, so it can neither end nor alter this one.
"""

import builtins
import os
import sys
import traceback
from typing import Any

from . import plain_data, program, test_cases

PASSED, ASSERTION_FAILED, FAILED = 0, 10, 11


CONTROL_FLOW = (StopIteration, StopAsyncIteration, UnicodeDecodeError)


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

    def __iter__(self) -> Any:
        return iter(self._solution.call({"name_of_builtin": "list"}, (self,), {}))

    def __enter__(self) -> Any:
        return self.__getattr__("__enter__")()

    def __exit__(self, *_: object) -> None:
        self.__getattr__("__exit__")(None, None, None)


def add_operators() -> None:
    """What the solution's objects are asked through operators. `==` is none of them: it would be theirs to say."""
    names = "lt le gt ge add sub mul truediv floordiv mod pow and_ or_ xor neg pos abs contains setitem delitem"
    for name in names.split():

        def ask(self: Remote, *others: Any, name: str = name) -> Any:
            return self._solution.operate(name, (self, *others))

        setattr(Remote, f"__{name.rstrip('_')}__", ask)


add_operators()


class RemoteFunction:
    """A function or class of the solution, by name."""

    def __init__(self, name: str, solution: "RemoteSolution") -> None:
        self.__name__, self._solution = name, solution

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._solution.call({"name": self.__name__}, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._solution.attribute_of({"name": self.__dict__["__name__"]}, name)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self._solution.is_instance(value, self.__name__)


class RemoteSolution:
    """The solution behind descriptor `channel`."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._callbacks: list[Any] = []

    def names(self, entry_points: list[str], modules: frozenset[str] = frozenset()) -> dict[str, Any]:
        """What the solution defines. Builtins are not overridden by it, except the names it is asked to define, and
        never the `modules` that the test program reads attributes of."""
        exported = plain_data.receive(self._channel)
        found: dict[str, Any] = {}
        for alias, module in exported["modules"].items():
            if module in sys.stdlib_module_names or module == "numpy":
                found[alias] = __import__(module, fromlist=["_"])
        found |= {name: self._decode(value) for name, value in exported["values"]}
        found |= {name: RemoteFunction(name, self) for name in exported["functions"]}
        allowed = {name: value for name, value in found.items() if name in entry_points or not hasattr(builtins, name)}
        return allowed | {name: __import__(name) for name in modules & found.keys()}

    def call(self, target: dict, arguments: tuple, keywords: dict) -> Any:
        form = [self._encode(argument) for argument in arguments]
        reply = self._ask(target | {"arguments": form, "keywords": self._encode(keywords)})
        for argument, after in zip(arguments, self._decode(reply["arguments"]), strict=True):
            update_in_place(argument, after)
        return finished(self._decode(reply["awaitable"])) if "awaitable" in reply else self._decode(reply["value"])

    def attribute(self, number: int, name: str) -> Any:
        return self.attribute_of({"of": {"handle": number}}, name)

    def attribute_of(self, owner: dict, name: str) -> Any:
        return self._decode(self._ask(owner | {"attribute": name})["value"])

    def is_instance(self, value: Remote, name: str) -> bool:
        return self._ask({"of": handle_of(value), "instance_of": name})["value"] is True

    def operate(self, name: str, values: tuple) -> Any:
        return self._decode(self._ask({"operator": name, "arguments": self._encode(values)})["value"])

    def set_attribute(self, number: int, name: str, value: Any) -> None:
        self._ask({"of": {"handle": number}, "attribute": name, "new_value": self._encode(value)})

    def _ask(self, request: dict) -> dict:
        plain_data.send(self._channel, request)
        while "callback" in (reply := plain_data.receive(self._channel)):
            plain_data.send(self._channel, self._call_back(reply))
        if "error" in reply:
            kind = getattr(builtins, str(reply["error"]), None)
            # Only ordinary exceptions: SystemExit would end the examiner, StopIteration a loop of the test program.
            if isinstance(kind, type) and issubclass(kind, Exception) and kind not in CONTROL_FLOW:
                raise build_exception(kind, str(reply["text"]))
            raise RemoteError(f"{reply['error']}: {reply['text']}")
        return reply

    def _call_back(self, request: dict) -> dict:
        """Call a function of the test program for the solution."""
        try:
            function = self._callbacks[-1 - int(request["callback"])]
            result = function(*self._decode(request["arguments"]), **self._decode(request["keywords"]))
            return {"value": self._encode(result)}
        except Exception as error:
            return {"error": type(error).__name__, "text": str(error)[:1000]}

    def _encode(self, value: Any) -> Any:
        return plain_data.encode(value, self._handle)

    def _handle(self, value: Any) -> dict:
        """The solution's own object, or a function of the test program, which gets a negative number."""
        if callable(value) and not isinstance(value, Remote | RemoteFunction):
            self._callbacks.append(value)
            return {"handle": -len(self._callbacks)}
        return handle_of(value)

    def _decode(self, data: Any) -> Any:
        return plain_data.decode(data, lambda number: Remote(number, self))


async def finished(value: Any) -> Any:
    """What an async function of the solution gave, awaited there already."""
    return value


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
    prelude, test = text[:prelude_length], text[prelude_length:]
    module = type(sys)("__main__")
    namespace, ran = module.__dict__, test_cases.Ran()
    # unittest.main() looks for its tests in the module of this name.
    sys.modules["__main__"] = module
    try:
        used = test_cases.modules_used(prelude + "\n" + test)
        names = RemoteSolution(program.CHANNEL).names(entry_points, used)
        namespace |= {"__builtins__": builtins, **names}
        exec(compile(prelude, "prelude.py", "exec", dont_inherit=True), namespace)
        if prelude_length:
            namespace |= {name: names[name] for name in entry_points if name in names}
        with test_cases.counted() as ran:
            exec(compile(test, "test.py", "exec", dont_inherit=True), namespace)
        return verdict(test_cases.run_rest(namespace, test, ran))
    except SystemExit as error:
        return ended(error.code, ran)
    except AssertionError:
        traceback.print_exc()
        return ASSERTION_FAILED
    except BaseException:
        traceback.print_exc()
        return FAILED


def ended(code: object, ran: "test_cases.Ran") -> int:
    """The verdict of a test program that ended itself, as unittest.main() does."""
    if ran.started:
        return verdict(ran)
    return FAILED if code else PASSED


def verdict(ran: "test_cases.Ran") -> int:
    """Of unittest and pytest tests, where the program has any: one must have run, and none may have failed."""
    if not ran.started:
        return PASSED
    if ran.failures:
        return ASSERTION_FAILED
    return FAILED if ran.errors or not ran.number else PASSED
