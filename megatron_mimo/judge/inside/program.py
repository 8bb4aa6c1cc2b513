"""A child that becomes a judged Python program. It shares its process with the solution: nothing is secret."""

import atexit
import gc
import marshal
import posix
import sys

ModuleType = type(sys)
STDIN, STDOUT, STDERR, CHANNEL = range(4)
HARNESS_FRAMES = 8


def compile_source(prelude: str) -> None:
    """Compile `prelude` and descriptor 0 to code objects on descriptor 1; a syntax error: descriptor 2, exit code 1."""
    try:
        first = compile(prelude, "prelude.py", "exec", dont_inherit=True)
        code = compile(read_all(STDIN), "main.py", "exec", dont_inherit=True)
        write_all(STDOUT, marshal.dumps((first, code)))
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        posix._exit(1)
    posix._exit(0)


def run(code: bytes, message: dict) -> None:
    """Run the solution as a program (stdio), or call a function of it (call). Never returns."""
    if message["dev_stdin"]:
        # Without /proc, /dev/stdin is a link to this file.
        with open("/tmp/stdin", "wb") as file:
            file.write(read_all(STDIN))
        posix.lseek(STDIN, 0, 0)
    if message["kind"] == "call":
        finish(lambda namespace: call(code, namespace, message["function"]))
    finish(lambda namespace: execute(code, namespace))


def serve(code: bytes) -> None:
    """Run the solution, then answer the examiner's calls on descriptor 3 until it hangs up. Never returns."""
    from . import remote

    def body(namespace: dict) -> None:
        execute(code, namespace)
        remote.serve(CHANNEL, namespace)

    finish(body, "solution")


def execute(code: bytes, namespace: dict) -> None:
    for part in marshal.loads(code):
        exec(part, namespace)


def call(code: bytes, namespace: dict, function: str) -> None:
    """Call with the JSON list on standard input; the result goes to descriptor 3 as JSON."""
    import json

    execute(code, namespace)
    arguments = json.loads(read_all(STDIN))
    holder = namespace.get("Solution")
    target = getattr(holder(), function, None) if isinstance(holder, type) else None
    from . import nodes

    target = target or namespace[function]
    result = nodes.result(target, target(*nodes.arguments(target, arguments, namespace)))
    write_all(CHANNEL, json.dumps(result, default=plain).encode())


def plain(value: object) -> object:
    """JSON form of what JSON lacks: linked nodes, arrays of numpy, sets, iterators."""
    from . import nodes

    if nodes.is_node(value):
        return nodes.values(value)
    return value.tolist() if hasattr(value, "tolist") else list(value)  # type: ignore[attr-defined, call-overload]


def finish(body, name: str = "__main__") -> None:
    """Run `body` with a fresh module's namespace, then end as the interpreter would: threads, atexit, flush.

    The text streams are those of the supervisor, which never touched them; the files beneath are the test's.
    """
    module = ModuleType(name)
    module.__dict__.update(__builtins__=__builtins__, __file__="main.py")
    sys.modules[name] = module
    sys.argv = ["main.py"]
    sys.setrecursionlimit(sys.getrecursionlimit() + HARNESS_FRAMES)
    code = exit_code(lambda: body(module.__dict__))
    code = wind_down(module.__dict__) or code
    posix._exit(code & 0xFF)


def exit_code(body) -> int:
    try:
        body()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def wind_down(namespace: dict) -> int:
    """What Py_FinalizeEx does that a program can see. Returns 120, as Python does, if the output cannot be flushed."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    # The program's streams are flushed while its names live; then those go, and the interpreter's own are flushed.
    code = flushed(sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    namespace.clear()
    gc.collect()
    return flushed(sys.stdout, sys.stderr) or code


def flushed(*streams: object) -> int:
    """0, or 120 if one of the streams fails; a stream of the program's own need not know whether it is closed."""
    code = 0
    for stream in streams:
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()  # type: ignore[attr-defined]
        except BaseException as error:
            code = 120
            posix.write(STDERR, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    return code


def read_all(fd: int) -> bytes:
    return posix.pread(fd, posix.fstat(fd).st_size, 0)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]
