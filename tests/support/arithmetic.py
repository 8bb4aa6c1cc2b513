"""Checks the worked steps of generated arithmetic without the generator."""

import re


def check_steps(steps: list[str]) -> None:
    """Fail on a step that is not true: `7+8+0=15`, or `47*8=?` and later, with steps between, its result alone."""
    asked = []
    for step in steps:
        left, _, right = step.partition("=")
        if right == "?":
            asked.append(left)
        else:
            expression, result = (left, right) if right else (asked[-1], left)
            assert value(expression) == int(result), steps


def value(expression: str) -> int:
    """Of numbers, zeros in front or not, and one kind of operator between them."""
    first, *others = map(int, re.findall(r"\d+", expression))
    operators = set(re.findall(r"\D", expression))
    assert len(operators) == 1 and others, expression
    for other in others:
        first = {"+": first + other, "-": first - other, "*": first * other}[min(operators)]
    return first
