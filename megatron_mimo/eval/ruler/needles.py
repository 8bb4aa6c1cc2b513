"""Needles in a haystack: sentences that give a key its value, hidden in noise, prose, or other needles."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from megatron_mimo.eval.ruler.fit import longest
from megatron_mimo.eval.ruler.form import WORDINGS, Draft, Kind
from megatron_mimo.eval.ruler.haystack import NOISE, Haystack, random_needle

DEPTHS = [round(place * 100 / 39) / 100 for place in range(40)]
"""Of needles in prose, as shares of its sentences."""
FILLERS = 10
"""Sentences of noise that together are about as long as a needle with two UUIDs."""


def needles(kind: Kind, haystack: Haystack, rng: random.Random) -> Draft:
    """`num_keys` keys with `num_values` values each, of which `num_queries` keys are asked for."""
    words = haystack.words
    keys = distinct(lambda: random_needle(kind.key, words, rng), kind.num_keys)
    numbers = distinct(lambda: random_needle(kind.value, words, rng), kind.num_keys * kind.num_values)
    values = {key: numbers[i * kind.num_values : (i + 1) * kind.num_values] for i, key in enumerate(keys)}
    lines = [needle(kind, key, value) for key in keys for value in values[key]]
    rng.shuffle(lines)
    asked = rng.sample(keys, kind.num_queries)
    expected = tuple(value for key in asked for value in values[key])
    build, smallest = builder(kind, haystack, lines, rng)
    wording = WORDINGS["needles" if len(expected) > 1 else "needle"]
    things = kind.value + ("s" if len(expected) > 1 else "")
    query = ", ".join(asked[:-1]) + f", and {asked[-1]}" if len(asked) > 1 else asked[0]

    def text(size: int) -> str:
        return wording.prompt.format(things=things, context=build(size), query=query)

    return Draft(partial(longest, text, smallest), wording.prefix.format(things=things, query=query), expected)


def needle(kind: Kind, key: str, value: str) -> str:
    return f"One of the special magic {kind.value}s for {key} is: {value}."


def builder(kind: Kind, haystack: Haystack, lines: list[str], rng: random.Random) -> tuple[Callable[[int], str], int]:
    """The context of a size, and the smallest size; depths stay the same as it grows."""
    if kind.haystack == "essay":
        depths = sorted(rng.sample(DEPTHS, len(lines)))
        return lambda size: " ".join(hidden(haystack.sentences(size), lines, depths)), 50
    depths = sorted(rng.random() for _ in lines)
    if kind.haystack == "noise":
        return lambda size: "\n".join(hidden([" ".join(NOISE)] * size, lines, depths)), 2
    seed = rng.getrandbits(64)
    fillers = FILLERS if kind.key == "uuid" else 1

    def other_needles(size: int) -> str:
        """Needles of other keys; of long ones the rest of a size is filled with sentences of noise."""
        others = random.Random(seed)
        count, rest = divmod(size, fillers)
        made = [needle(kind, *(random_needle(one, haystack.words, others) for one in (kind.key, kind.value)))
                for _ in range(count)]  # fmt: skip
        return "\n".join([*hidden(made, lines, depths), *(NOISE * FILLERS)[:rest]])

    return other_needles, 2 * fillers


def hidden(sentences: Sequence[str], lines: Sequence[str], depths: Sequence[float]) -> list[str]:
    """The lines among the sentences, each after its share of them."""
    parts: list[str] = []
    start = 0
    for line, depth in zip(lines, depths, strict=True):
        end = int(len(sentences) * depth)
        parts += [*sentences[start:end], line]
        start = end
    return [*parts, *sentences[start:]]


def distinct(make: Callable[[], str], count: int) -> list[str]:
    """`count` different results of `make`."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[make()] = None
    return list(found)
