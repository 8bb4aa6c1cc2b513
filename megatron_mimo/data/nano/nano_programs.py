"""Functions of one line that MiMo-nano can write: what is asked, a right answer, a lazy one, and inputs that tell them.

A lazy answer (`return x`) passes the easy inputs alone, as an answer that was never tested does. The embedded corpus
shows programs with numbers up to 79 only, so that held-out programs, all above, are in no training data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from megatron_mimo.data.document import is_held_out

NUMBERS = range(3, 100)
FIRST_HELD_OUT = 80
HELD_OUT_SHARE = 0.5
"""Of the programs with numbers from there on."""
Kind = tuple[str, str, str, str, tuple[int, ...], tuple[int, ...]]
KINDS: list[Kind] = [
    # name, what it returns, right and lazy expression, easy inputs (the lazy answer passes), hard inputs
    ("at_most_{k}", "the smaller of x and {k}", "min(x, {k})", "x", (0, 1, 2), (100, 250, 999)),
    ("at_least_{k}", "the larger of x and {k}", "max(x, {k})", "x", (100, 250, 999), (0, 1, 2)),
    ("distance_to_{k}", "the distance between x and {k}", "abs(x - {k})", "x - {k}", (100, 300, 500), (0, 1, 2)),
    ("remainder_by_{k}", "the remainder of x divided by {k}", "x % {k}", "x", (0, 1, 2), (100, 301, 777)),
    ("divide_by_{k}", "x divided by {k}, rounded down", "x // {k}", "0", (0, 1, 2), (100, 301, 777)),
    ("add_{k}", "x plus {k}", "x + {k}", "{k}", (0,), (1, 58, 399)),
]


@dataclass(frozen=True)
class Program:
    """A function of the integer x to write."""

    function: str
    returns: str
    """In words, as the task says."""
    expression: str
    lazy_expression: str
    easy_inputs: tuple[int, ...]
    hard_inputs: tuple[int, ...]
    held_out: bool
    """In no training data: neither the corpus nor the conversations."""

    @property
    def id(self) -> str:
        return f"program/{self.function}"

    @property
    def prompt(self) -> str:
        """What a model is asked."""
        return f"Task: Write a Python function {self.function}(x) that returns {self.returns}.\n"

    @property
    def source(self) -> str:
        """The right answer."""
        return self._source(self.expression)

    @property
    def lazy_source(self) -> str:
        """An answer that passes the easy inputs and fails on a hard one."""
        return self._source(self.lazy_expression)

    def _source(self, expression: str) -> str:
        return f"def {self.function}(x):\n    return {expression}\n"


def programs() -> Iterator[Program]:
    """Every program, a kind after the other."""
    for kind in KINDS:
        for k in NUMBERS:
            function, returns, expression, lazy = (text.format(k=k) for text in kind[:4])
            held_out = k >= FIRST_HELD_OUT and is_held_out(f"program/{function}", HELD_OUT_SHARE)
            yield Program(function, returns, expression, lazy, kind[4], kind[5], held_out)
