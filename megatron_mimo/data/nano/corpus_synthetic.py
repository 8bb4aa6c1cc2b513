"""Synthetic responses of stage 3: word problems with worked solutions, and small programs with their tests."""

import random
from collections.abc import Iterator

from megatron_mimo.data.document import Document, split_by_hash
from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem

VALID_SHARE = 0.03
_NAMES = ["Ada", "Ben", "Chen", "Dora", "Emil", "Fatima", "Grace", "Hugo", "Ines", "Jun", "Kofi", "Lena", "Mei", "Noor"]
_THINGS = ["apples", "books", "coins", "marbles", "pencils", "shells", "stamps", "stickers", "stones", "tickets"]
_STORIES = {
    "+": [
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        "There are {a} {things} in one box and {b} in another. How many {things} are there together?",
    ],
    "-": [
        "{name} has {a} {things} and gives {b} away. How many {things} are left?",
        "Of {a} {things}, {b} belong to {name}. How many {things} belong to others?",
    ],
    "*": [
        "{name} has {a} boxes with {b} {things} each. How many {things} does {name} have?",
        "One bag holds {b} {things}. How many {things} do {a} bags hold?",
    ],
}
# (name, what it does, expression in x and k, inputs): every function takes x, k is written into it.
_NUMBER_TASKS = [
    ("add_{k}", "x plus {k}", "x + {k}"),
    ("subtract_{k}", "x minus {k}", "x - {k}"),
    ("multiply_by_{k}", "x times {k}", "x * {k}"),
    ("remainder_by_{k}", "the remainder of x divided by {k}", "x % {k}"),
    ("divide_by_{k}", "x divided by {k}, rounded down", "x // {k}"),
    ("at_most_{k}", "the smaller of x and {k}", "min(x, {k})"),
    ("at_least_{k}", "the larger of x and {k}", "max(x, {k})"),
    ("is_multiple_of_{k}", "whether x is a multiple of {k}", "x % {k} == 0"),
    ("distance_to_{k}", "the distance between x and {k}", "abs(x - {k})"),
]
_LIST_TASKS = [
    ("first_{k}", "the first {k} items of the list x", "x[:{k}]"),
    ("last_{k}", "the last {k} items of the list x", "x[-{k}:]"),
    ("without_first_{k}", "the list x without its first {k} items", "x[{k}:]"),
    ("greater_than_{k}", "the items of the list x that are greater than {k}", "[item for item in x if item > {k}]"),
    ("count_{k}", "how often {k} is in the list x", "x.count({k})"),
    ("plus_{k}", "the list x with {k} added to every item", "[item + {k} for item in x]"),
    ("sum_times_{k}", "the sum of the list x times {k}", "sum(x) * {k}"),
    ("repeat_{k}", "the list x repeated {k} times", "x * {k}"),
]


def synthetic_documents(seed: int = 0) -> Iterator[Document]:
    """Yield word problems, then programs; no training document shows a held-out arithmetic problem."""
    generator = random.Random(seed)
    yield from _word_problems(generator, per_story=420)
    yield from split_by_hash(_programs(generator), VALID_SHARE)


def _word_problems(generator: random.Random, per_story: int) -> Iterator[Document]:
    for operator, stories in _STORIES.items():
        for number, story in enumerate(stories):
            for index in range(per_story):
                a, b = generator.randrange(10, 100), generator.randrange(10, 100)
                problem = (
                    ArithmeticProblem(max(a, b), operator, min(a, b))
                    if operator == "-"
                    else ArithmeticProblem(a, operator, b)
                )
                text = story.format(
                    name=generator.choice(_NAMES), things=generator.choice(_THINGS), a=problem.a, b=problem.b
                )
                worked = f"Question: {text}\n{problem.a}{operator}{problem.b}=?\n{problem.solution}"
                split = "valid" if problem.held_out else "train"
                yield Document(f"story{operator}{number}/{index}", worked, split)


def _programs(generator: random.Random) -> Iterator[tuple[str, str]]:
    for name, returns, expression in _NUMBER_TASKS:
        for k in range(2, 80):
            inputs = [generator.randrange(100, 1000) for _ in range(3)]  # never a two-digit problem of the held-out set
            yield _program(name.format(k=k), returns.format(k=k), expression.format(k=k), inputs)
    for name, returns, expression in _LIST_TASKS:
        for k in range(1, 10):
            for variant in range(6):
                inputs = [[generator.randrange(0, 10) for _ in range(generator.randrange(2, 6))] for _ in range(2)]
                identifier, text = _program(name.format(k=k), returns.format(k=k), expression.format(k=k), inputs)
                yield f"{identifier}/{variant}", text


def _program(name: str, returns: str, expression: str, inputs: list) -> tuple[str, str]:
    """A task, its solution and tests whose expected values come from running the expression."""
    tests = [f"assert {name}({x!r}) == {_run(expression, x)!r}" for x in inputs]
    header = f"Task: Write a Python function {name}(x) that returns {returns}."
    return f"program/{name}", "\n".join([header, f"def {name}(x):", f"    return {expression}", *tests])


def _run(expression: str, x: int | list[int]) -> object:
    """Evaluate one of the expressions above: text of this file, never of a user."""
    return eval(expression, {"__builtins__": {"abs": abs, "max": max, "min": min, "sum": sum}}, {"x": x})
