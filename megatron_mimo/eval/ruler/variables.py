"""Variable tracking: all names that a value is handed to along a chain of assignments, after a worked example."""

import itertools
import random
import string

from megatron_mimo.eval.ruler.fit import longest
from megatron_mimo.eval.ruler.form import WORDINGS, CountTokens, Draft
from megatron_mimo.eval.ruler.haystack import NOISE
from megatron_mimo.eval.ruler.needles import distinct, hidden

NUM_HOPS = 4
EXAMPLE_TOKENS = 500
"""Of the worked example."""


def variables(rng: random.Random) -> Draft:
    """Names of five letters; the example's have three."""
    wording = WORDINGS["variables"]
    example, problem = Chain(rng, 3), Chain(rng, 5)

    def fit(budget_tokens: int, count: CountTokens) -> str:
        start = longest(example.text, len(example.lines), min(EXAMPLE_TOKENS, budget_tokens // 2), count)
        worked = f"{start}{wording.prefix.format(query=example.value)} {' '.join(example.names)}\n\n"
        return longest(lambda size: worked + problem.text(size), len(problem.lines), budget_tokens, count)

    return Draft(fit, wording.prefix.format(query=problem.value), tuple(problem.names))


class Chain:
    """Assignments in order, at fixed depths of the noise."""

    def __init__(self, rng: random.Random, letters: int) -> None:
        """Draws names, value and depths."""
        self.names = distinct(lambda: "".join(rng.choices(string.ascii_uppercase, k=letters)), NUM_HOPS + 1)
        self.value = str(rng.randrange(10_000, 99_999))
        self.lines = [f"VAR {self.names[0]} = {self.value}"]
        self.lines += [f"VAR {name} = VAR {earlier}" for earlier, name in itertools.pairwise(self.names)]
        self._depths = sorted(rng.random() for _ in self.lines)

    def text(self, size: int) -> str:
        """The question over `size` lines of noise."""
        context = "\n".join(hidden([" ".join(NOISE)] * size, self.lines, self._depths))
        return WORDINGS["variables"].prompt.format(context=context, query=self.value)
