"""Checks the worked steps of generated arithmetic without the generator."""

import re


def check_steps(steps: list[str]) -> None:
    """Fail on a step that is not true: `7+8+0=15`, or `47*8=?` and later, with steps between, its result alone.

    Steps side by side stand in columns: a result answers the question of its column.
    """
    asked: dict[int, str] = {}
    for step in steps:
        for column, part in enumerate(step.split(" ")):
            left, _, right = part.partition("=")
            if right == "?":
                asked[column] = left
            else:
                expression, result = (left, right) if right else (asked[column], left)
                assert value(expression) == int(result), steps


def value(expression: str) -> int:
    """Of numbers, zeros in front or not, and one kind of operator between them."""
    first, *others = map(int, re.findall(r"\d+", expression))
    operators = set(re.findall(r"\D", expression))
    assert len(operators) == 1 and others, expression
    for other in others:
        first = {"+": first + other, "-": first - other, "*": first * other}[min(operators)]
    return first
