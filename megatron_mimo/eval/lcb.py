"""LiveCodeBench's runner emulated inside the judge's sandbox, for figures comparable with published ones.

Rules taken over: names of the standard library are imported first; the body of a last `if __name__ == "__main__":`
always runs; all statements but imports move into one function; standard input is a text in memory whose `readline`
hands out lines without their ends and fails after the last; output is captured, stripped and compared line by line,
a line also by its exact decimals; a tuple is as good as a list at the outermost level of a result; six seconds a
test, 4 GB. So correct programs fail here that fail there: names declared `global`, `sys.stdin.buffer`, `open(0)`,
`os.read(0, n)`, an empty line read by `input()`, and `stdin`/`stdout` taken from `from sys import *`.

Differences, which matter to programs that attack their grader or lean on leaks:

1. expected outputs are never in the program's process, and each test has its own process: state, patched builtins
   and cheats do not carry over from test to test;
2. the six seconds are processor time; the clock may show more on a busy machine;
3. `mock_open`, numpy and the patched-out functions of `reliability_guard` are not there: the sandbox holds instead;
4. a program that ends its interpreter inside a call (`os._exit`) fails; there it takes the whole grade down;
5. a result that JSON cannot write is a runtime error, not a wrong answer; both fail.
"""

import asyncio
import json
from typing import Any

from megatron_mimo.eval.protocol import GradeFault
from megatron_mimo.judge.compare import same_lines
from megatron_mimo.judge.pool import JudgePool
from megatron_mimo.judge.prelude import MODULES
from megatron_mimo.judge.request import Limits, Solution
from megatron_mimo.judge.result import Verdict

IMPORTS = (
    "".join(f"from {module} import *\n" for module in MODULES)
    + "".join(f"import {module}\n" for module in MODULES[:-2])
    + "sys.setrecursionlimit(50000)\n"
)
LIMITS = Limits(cpu_seconds=6.0, memory_bytes=4 << 30)

START = """
import ast, io, json, os, sys, types
SOURCE, IMPORTS, FUNCTION = {source!r}, {imports!r}, {function!r}
given, output = sys.stdin.read(), os.dup(1)
os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
def load(source):
    module = types.ModuleType("tmp_sol", "")
    exec(source, module.__dict__)
    return module
def send(text):
    rest = text.encode("utf-8", "replace")
    while rest:
        rest = rest[os.write(output, rest):]
"""
STDIO = """
def in_a_function(source):
    tree = ast.parse(source)
    if tree.body and isinstance(tree.body[-1], ast.If):
        if ast.unparse(tree.body[-1].test) == "__name__ == '__main__'":
            tree.body[-1:] = tree.body[-1].body
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    function = ast.parse("def wrapped_function(): pass").body[0]
    function.body = [node for node in tree.body if node not in imports]
    return IMPORTS + "\\n" + ast.unparse(imports) + "\\n" + ast.unparse(function)
try:
    source = in_a_function(SOURCE)
except Exception:
    source = SOURCE
function = load(source).wrapped_function
lines, captured = iter(given.split("\\n")), io.StringIO()
sys.stdin, sys.stdout = io.StringIO(given), captured
sys.stdin.read = lambda *_: given
sys.stdin.readline = lambda *_: next(lines)
sys.stdin.readlines = lambda *_: given.split("\\n")
captured.close = lambda *_: 1
try:
    function()
except SystemExit:
    pass
send(captured.getvalue())
"""
CALL = """
module = load(IMPORTS + "\\n\\n" + SOURCE)
holder = module.Solution() if "class Solution" in SOURCE else module
result = getattr(holder, FUNCTION)(*[json.loads(line) for line in given.split("\\n")])
def marked(value):
    if isinstance(value, tuple):
        return {{"a tuple inside of a result is no list": len(value)}}
    return [marked(item) for item in value] if isinstance(value, list) else value
send(json.dumps(marked(list(result) if isinstance(result, tuple) else result)))
"""


async def grade(
    source: str, inputs: list[str], outputs: list[str], function: str | None, pool: JudgePool
) -> tuple[bool, str]:
    """Whether every test passes, and the verdict of the first that does not. Raises GradeFault on a judge's fault."""
    script = START + (STDIO if function is None else CALL)
    program = Solution(source=script.format(source=source, imports=IMPORTS, function=function))
    same = same_lines if function is None else same_result
    for given, wanted in zip(inputs, outputs, strict=True):
        run = await asyncio.wrap_future(pool.run(program, given, LIMITS))
        if run.result.verdict is Verdict.JUDGE_FAULT:
            raise GradeFault(run.result.message)
        if run.result.verdict is not Verdict.ACCEPTED:
            return False, str(run.result.verdict)
        if not same(run.stdout, wanted):
            return False, str(Verdict.WRONG_ANSWER)
    return True, str(Verdict.ACCEPTED)


def same_result(printed: str, wanted: str) -> bool:
    """The rule for functions: Python's equality."""
    try:
        result: Any = json.loads(printed)
    except (ValueError, RecursionError):
        return False
    return result == json.loads(wanted)
