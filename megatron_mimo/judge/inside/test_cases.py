"""Tests in the forms of unittest and pytest in a test program: counted where it runs them, run where it does not."""

import ast
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MODULES = ("math", "cmath", "re", "random", "statistics", "itertools", "collections", "functools", "operator", "string",
           "copy", "json", "sys", "os", "datetime", "decimal", "fractions", "heapq", "bisect", "typing", "unittest",
           "io", "types", "inspect", "time", "textwrap")  # fmt: skip
"""Modules that a test program may take from the solution's imports; a solution's object of the name is none."""


@dataclass
class Ran:
    """Tests that ran."""

    started: bool = False
    number: int = 0
    failures: int = 0
    errors: int = 0

    def add(self, result) -> None:
        self.started = True
        self.number += result.testsRun - len(result.skipped)
        self.failures += len(result.failures) + len(result.unexpectedSuccesses)
        self.errors += len(result.errors)


def modules_used(text: str) -> frozenset[str]:
    """Names of MODULES whose attributes a program reads and that it never calls or assigns."""
    tree = ast.parse(text)
    read = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return frozenset(read - called) & frozenset(MODULES)


@contextmanager
def counted() -> Iterator[Ran]:
    """Count what unittest's own runner runs inside of the block."""
    ran = Ran()
    if "unittest" not in sys.modules:
        yield ran
        return
    import unittest

    run = unittest.TextTestRunner.run

    def noted(self, test):
        result = run(self, test)
        ran.add(result)
        return result

    unittest.TextTestRunner.run = noted
    try:
        yield ran
    finally:
        unittest.TextTestRunner.run = run


def run_rest(namespace: dict, text: str, ran: Ran) -> Ran:
    """Run TestCase classes, Test classes and test_ functions that the program defines and did not run itself."""
    called = {
        node.func.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    own = [(name, value) for name, value in namespace.items() if getattr(value, "__module__", None) == "__main__"]
    cases = [value for _, value in own if is_case(value)]
    if cases and not ran.started:
        import unittest

        loader = unittest.TestLoader()
        suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
        ran.add(unittest.TextTestRunner(stream=sys.stderr).run(suite))
    for name, value in own:
        if name in called or is_case(value):
            continue
        if name.startswith("test") and callable(value) and not isinstance(value, type):
            run_one(value, ran)
        elif name.startswith("Test") and isinstance(value, type):
            for method in [method for method in dir(value) if method.startswith("test")]:
                run_method(value, method, ran)
    return ran


def is_case(value: object) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and isinstance(value, type) and issubclass(value, unittest.TestCase)


def run_method(test_class: type, name: str, ran: Ran) -> None:
    instance = test_class()
    if hasattr(instance, "setup_method"):
        instance.setup_method()
    run_one(getattr(instance, name), ran)


def run_one(function, ran: Ran) -> None:
    ran.started, ran.number = True, ran.number + 1
    try:
        function()
    except AssertionError:
        traceback.print_exc()
        ran.failures += 1
    except Exception:
        traceback.print_exc()
        ran.errors += 1
