"""From a model's program and a benchmark's record to what the judge is asked: the same for RL and for evaluation."""

import ast
import builtins
import json
from collections.abc import Sequence
from typing import Any, Literal

from megatron_mimo.judge.request import AssertTest, CallTest, Solution, StdioTest, Test


def solution_for(source: str, tests: Sequence[Test], language: Literal["python", "cpp"] = "python") -> Solution:
    """The program with the names that contest graders import first; programs for asserts bring their own imports."""
    usual = language == "python" and not any(isinstance(test, AssertTest) for test in tests)
    return Solution(source=source, language=language, prelude="usual" if usual else "none")


def contest_test(given: str, wanted: str, function: str | None) -> Test:
    """A test of LiveCodeBench: standard input and output; with `function`, one JSON value per line and argument."""
    if function is None:
        return StdioTest(stdin=given, stdout=wanted)
    arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
    return CallTest(function=function, arguments=arguments, expected=json.loads(wanted))


def mbpp_tests(record: dict[str, Any], challenges: bool = False) -> list[Test]:
    """Tests of an MBPP or MBPP+ record: `test_list` of asserts, or the program `test` of MBPP+.

    challenges: with those of `challenge_test_list`, which the benchmark does not count.
    """
    asserts = [*record["test_list"], *(record.get("challenge_test_list") or [] if challenges else [])]
    names = shadowed_builtins(record.get("code") or "") or builtins_under_test(asserts)
    setup = "\n".join([record.get("test_setup_code") or "", *(record.get("test_imports") or [])])
    # MBPP+ has one test program besides the asserts that the prompt shows.
    programs = [record["test"]] if record.get("test") else [f"{setup}\n{one}" for one in asserts]
    return [AssertTest(program=program, entry_points=names) for program in programs]


def shadowed_builtins(source: str) -> list[str]:
    """Functions of a golden solution that carry a builtin's name (MBPP has `sum`)."""
    try:
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        return []
    return [function.name for function in functions if hasattr(builtins, function.name)]


def builtins_under_test(asserts: Sequence[str]) -> list[str]:
    """Builtins' names that every assert calls, where no assert calls anything else: then one of them is what is asked
    for, and no golden solution is needed to know it."""
    called: list[set[str]] = []
    for program in asserts:
        try:
            calls = [node.func for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
        except SyntaxError:
            return []
        if not all(isinstance(call, ast.Name) and hasattr(builtins, call.id) for call in calls):
            return []
        called.append({call.id for call in calls if isinstance(call, ast.Name)})
    return sorted(set.intersection(*called)) if called else []
