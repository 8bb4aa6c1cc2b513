"""Arithmetic of graded difficulty with worked steps: from sums of two digits to what MiMo-nano hardly ever solves.

The levels, each with its number in the prompt:

    1  a sum or difference of two-digit numbers            Level 1: 47+38=?
    2  the same with three digits                          Level 2: 470+385=?
    3  two operations on two-digit numbers                 Level 3: 47+38-19=?
    4  a two-digit number times a digit, plus another      Level 4: 47*3+25=?
    5  four operations in a row                            Level 5: 47+38-19+60-21=?
    6  a bracket times a digit                             Level 6: (47+38)*6=?

Every operation is worked out below the prompt, on a line of its own and digit by digit from the ones upward (columns
with the carry, or borrow, as last term), and its result starts the next one:

    47*3+25=?
    47*3: 7*3+0=21 4*3+2=14 =141
    141+25: 1+5+0=06 4+2+0=06 1+0+0=01 =166
    Answer: \\boxed{166}

Whether a problem is held out depends on its numbers alone, so that no training document shows it in any form.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from megatron_mimo.data.document import Document, is_held_out

LEVELS = range(1, 7)
PER_LEVEL = 2500
HELD_OUT_SHARE = 0.03


@dataclass(frozen=True)
class OperationChain:
    """A first number and operations on the result so far: `+`, `-` or `*` and a number."""

    level: int
    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        """`(47+38)*6`."""
        text = str(self.first)
        for index, (operator, number) in enumerate(self.operations):
            if operator == "*" and index:
                text = f"({text})"
            text += f"{operator}{number}"
        return text

    @property
    def prompt(self) -> str:
        """What a model is asked to continue."""
        return f"Level {self.level}: {self.question}=?\n"

    @property
    def answer(self) -> int:
        """The result."""
        value = self.first
        for operator, number in self.operations:
            value = apply(operator, value, number)
        return value

    @property
    def solution(self) -> str:
        """The worked steps and the boxed answer."""
        lines, value = [], self.first
        for operator, number in self.operations:
            result = apply(operator, value, number)
            lines.append(f"{value}{operator}{number}: {' '.join(COLUMNS[operator](value, number))} ={result}")
            value = result
        return "\n".join([*lines, f"Answer: \\boxed{{{value}}}"])

    @property
    def is_held_out(self) -> bool:
        """True for what no training document shows; sums and differences of the same numbers go together."""
        numbers = ",".join(map(str, sorted([self.first, *(number for _, number in self.operations)])))
        return is_held_out(f"graded {numbers}", HELD_OUT_SHARE)


def apply(operator: str, a: int, b: int) -> int:
    """The result of one operation."""
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def graded_documents(seed: int = 0) -> Iterator[Document]:
    """PER_LEVEL problems of each level, one document each, none twice; the held-out ones are the valid split."""
    generator = random.Random(seed)
    for level in LEVELS:
        seen: set[OperationChain] = set()
        while len(seen) < PER_LEVEL:
            chain = MAKERS[level](generator)
            if chain.answer >= 0 and chain not in seen:
                seen.add(chain)
                split = "valid" if chain.is_held_out else "train"
                yield Document(f"graded/{level}/{chain.question}", chain.prompt + chain.solution, split)


def _sum(generator: random.Random, level: int, digits: int, count: int) -> OperationChain:
    """Sums and differences in a row, no result below zero."""
    low, high = 10 ** (digits - 1), 10**digits
    value = first = generator.randrange(low, high)
    operations = []
    for _ in range(count):
        number = generator.randrange(low, high)
        operator = generator.choice("+-") if number <= value else "+"
        operations.append((operator, number))
        value = apply(operator, value, number)
    return OperationChain(level, first, tuple(operations))


def _product_and_sum(generator: random.Random) -> OperationChain:
    first, digit, number = generator.randrange(10, 100), generator.randrange(2, 10), generator.randrange(10, 100)
    return OperationChain(4, first, (("*", digit), ("+", number)))


def _bracket(generator: random.Random) -> OperationChain:
    first, number, digit = generator.randrange(10, 100), generator.randrange(10, 100), generator.randrange(2, 10)
    return OperationChain(6, first, ((generator.choice("+-") if number <= first else "+", number), ("*", digit)))


MAKERS: dict[int, Callable[[random.Random], OperationChain]] = {
    1: lambda generator: _sum(generator, 1, 2, 1),
    2: lambda generator: _sum(generator, 2, 3, 1),
    3: lambda generator: _sum(generator, 3, 2, 2),
    4: _product_and_sum,
    5: lambda generator: _sum(generator, 5, 2, 4),
    6: _bracket,
}


def _addition(a: int, b: int) -> Iterator[str]:
    carry = 0
    for x, y in columns_of(a, b):
        total = x + y + carry
        yield f"{x}+{y}+{carry}={total:02d}"
        carry = total // 10


def _subtraction(a: int, b: int) -> Iterator[str]:
    borrow = 0
    for x, y in columns_of(a, b):
        minuend = x + 10 * (x < y + borrow)
        yield f"{minuend:02d}-{y}-{borrow}={minuend - y - borrow}"
        borrow = int(minuend >= 10 and x < y + borrow)


def _times_digit(a: int, digit: int) -> Iterator[str]:
    carry = 0
    for x, _ in columns_of(a, 0):
        total = x * digit + carry
        yield f"{x}*{digit}+{carry}={total:02d}"
        carry = total // 10


COLUMNS: dict[str, Callable[[int, int], Iterator[str]]] = {"+": _addition, "-": _subtraction, "*": _times_digit}


def columns_of(a: int, b: int) -> Iterator[tuple[int, int]]:
    """The digits of both numbers from the ones upward, as many as the longer one has."""
    for place in range(max(len(str(a)), len(str(b)))):
        yield a // 10**place % 10, b // 10**place % 10
