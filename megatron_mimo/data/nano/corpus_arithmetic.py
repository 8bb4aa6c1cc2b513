"""Two-digit arithmetic with worked steps: verifiable reasoning that a model of a few million parameters can learn.

Every step needs only digits that are already written, most of them a few tokens before: columns from the ones upward
with the carry (or borrow) as last term, products through the two partial products. All steps have a fixed width, so
that a digit is always at the same distance from those it is computed from. The answer stands in `\\boxed{}` as in the
mathematics data of the report. The prompt is `Question: 47+38=?` and a line end; addition continues

    7+8+0=15
    4+3+1=08
    Answer: \\boxed{85}

subtraction (never negative) writes the borrow: `62-38` is `12-8-0=4`, `06-3-1=2`; multiplication writes the two partial
products of `47*38` side by side, so that no step looks far back:

    47*8=? 47*3=?
    7*8=56 7*3=21            ones of 47 times 8, and times 3
    4*8=32 4*3=12            tens of 47
    32+5=37 12+2=14          plus the carries
    376 141
    376+1410=?               column by column from the tens, with the result so far; its ones are there
    7+1+0=08 86
    3+4+0=07 786
    0+1+0=01 1786
    Answer: \\boxed{1786}
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from megatron_mimo.data.document import Document, is_held_out

HELD_OUT_SHARE = 0.03


@dataclass(frozen=True)
class ArithmeticProblem:
    """`a operator b` with two-digit operands; operator is `+`, `-` or `*`."""

    a: int
    operator: str
    b: int

    @property
    def id(self) -> str:
        """The problem itself: `47+38`."""
        return f"{self.a}{self.operator}{self.b}"

    @property
    def answer(self) -> int:
        """The result."""
        return {"+": self.a + self.b, "-": self.a - self.b, "*": self.a * self.b}[self.operator]

    @property
    def held_out(self) -> bool:
        """True for the pairs of operands that no training document shows, in either order."""
        small, large = sorted((self.a, self.b))
        return is_held_out(f"{small}{self.operator}{large}", HELD_OUT_SHARE)

    @property
    def prompt(self) -> str:
        """What a model is asked to continue."""
        return f"Question: {self.id}=?\n"

    @property
    def solution(self) -> str:
        """The worked steps and the boxed answer."""
        steps = {"+": _addition, "-": _subtraction, "*": _multiplication}[self.operator](self.a, self.b)
        return "\n".join([*steps, f"Answer: \\boxed{{{self.answer}}}"])


def problems() -> Iterator[ArithmeticProblem]:
    """Every two-digit problem with a result that is not negative: 8100 sums, 4095 differences, 8100 products."""
    for operator, a, b in itertools.product("+-*", range(10, 100), range(10, 100)):
        if operator != "-" or a >= b:
            yield ArithmeticProblem(a, operator, b)


def arithmetic_documents() -> Iterator[Document]:
    """One document a problem; the held-out problems are the valid split."""
    for problem in problems():
        identifier = f"{problem.a}{problem.operator}{problem.b}"
        yield Document(identifier, problem.prompt + problem.solution, "valid" if problem.held_out else "train")


def _addition(a: int, b: int) -> list[str]:
    return _columns(a, b, range(2))


def _columns(a: int, b: int, columns: range) -> list[str]:
    """Add digit by digit."""
    steps, carry = [], 0
    for column in columns:
        x, y = a // 10**column % 10, b // 10**column % 10
        total = x + y + carry
        steps.append(f"{x}+{y}+{carry}={total:02d}")
        carry = total // 10
    return steps


def _subtraction(a: int, b: int) -> list[str]:
    borrow = int(a % 10 < b % 10)
    ones, tens = a % 10 + 10 * borrow, a // 10
    return [f"{ones:02d}-{b % 10}-0={ones - b % 10}", f"{tens:02d}-{b // 10}-{borrow}={tens - b // 10 - borrow}"]


def _multiplication(a: int, b: int) -> list[str]:
    first, second, places = a * (b % 10), a * (b // 10) * 10, range(1, 4)
    beside = zip(_partial_product(a, b % 10), _partial_product(a, b // 10), strict=True)
    return [
        *(f"{of_ones} {of_tens}" for of_ones, of_tens in beside),
        f"{first:03d}+{second:04d}=?",
        *(
            f"{column} {_lowest(a * b, place)}"
            for place, column in zip(places, _columns(first, second, places), strict=True)
        ),
    ]


def _lowest(number: int, place: int) -> str:
    """The digits up to the one of 10 ** place."""
    return f"{number % 10 ** (place + 1):0{place + 1}d}"


def _partial_product(a: int, digit: int) -> list[str]:
    ones, tens = a % 10 * digit, a // 10 * digit
    carry = ones // 10
    return [
        f"{a}*{digit}=?",
        f"{a % 10}*{digit}={ones:02d}",
        f"{a // 10}*{digit}={tens:02d}",
        f"{tens:02d}+{carry}={tens + carry:02d}",
        f"{a * digit:03d}",
    ]
