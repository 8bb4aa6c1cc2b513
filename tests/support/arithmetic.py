"""Checks the worked steps of generated arithmetic without the generator."""

import re


def check_steps(steps: list[str]) -> None:
    """Fail on a step that is not true: `7+8+0=15`, or `47*8=?` and later, with steps between, its result alone.

    Steps side by side stand in columns: a result answers the question of its column, or, beside a step, is the end of
    the number that the only question asks for.
    """
    asked: list[str] = []
    for step in steps:
        parts = step.split(" ")
        if step.endswith("?"):
            asked = [part.removesuffix("=?") for part in parts]
            assert all("=?" in part for part in parts), steps
            continue
        for column, part in enumerate(parts):
            expression, _, result = part.rpartition("=")
            if expression:
                assert value(expression) == int(result), steps
            elif column < len(asked):
                assert value(asked[column]) == int(result), steps
            else:
                assert len(asked) == 1 and f"{value(asked[0]):04d}".endswith(result), steps


def value(expression: str) -> int:
    """Of numbers, zeros in front or not, and one kind of operator between them."""
    first, *others = map(int, re.findall(r"\d+", expression))
    operators = set(re.findall(r"\D", expression))
    assert len(operators) == 1 and others, expression
    for other in others:
        first = {"+": first + other, "-": first - other, "*": first * other}[min(operators)]
    return first
