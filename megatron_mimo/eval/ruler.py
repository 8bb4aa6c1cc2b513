"""RULER (Hsieh et al., 2024): synthetic long-context tasks of any length, made on the spot.

| task | the model must |
|---|---|
| niah_single | find the one value of a key in filler text |
| niah_multikey | find it among many other keys of the same form |
| niah_multivalue | find all four values of one key |
| niah_multiquery | find the values of four keys |
| vt | name all five variables that hold a value passed along by assignments |
| cwe | name the ten words that are common in a list among rare ones |
| fwe | name the three most frequent coded words (Zipf-distributed) |

Kinds, counts and scoring (the share of expected strings found in the answer) follow the paper; words, filler text and
wording are our own, so scores are comparable between models here, not digit by digit with published tables. A prompt
is the longest that stays within `context_tokens` minus the answer's room by the model's own tokenizer.
"""

import itertools
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.eval.protocol import EvalProblem, Grade, Graders, user
from megatron_mimo.reward.final_answer import final_part

CountTokens = Callable[[str], int]
ANSWER_TOKENS = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50}
"""Room for the answer inside of the context, as in the paper's code; a thinking model's `max_tokens` may be more."""
MARGIN_TOKENS = 32
"""For the chat template."""
KINDS = ("niah_single", "niah_multikey", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe")

SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
SUBJECTS = ("The river", "A quiet road", "The old mill", "My neighbour", "The evening train", "A small boat")
VERBS = ("passes", "remembers", "leaves", "crosses", "follows", "meets")
OBJECTS = ("the village", "a row of trees", "the market square", "the northern hills", "an empty field", "the harbour")


@dataclass(frozen=True)
class Draft:
    """A prompt whose filler can grow; `build(size)` gives its text."""

    build: Callable[[int], str]
    expected: list[str]


@dataclass
class Ruler:
    """One kind at one length. `generate(count)` makes the problems; `grade` is that of every task."""

    kind: str
    context_tokens: int
    num_problems: int
    seed: int = 0
    needs = frozenset()
    version = "1"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError("ruler", self.kind, f"is one of {', '.join(KINDS)}")

    @property
    def name(self) -> str:
        return f"ruler_{self.kind}"

    def generate(self, count: CountTokens) -> list[EvalProblem]:
        """Problems of the asked length; `count` gives a text's tokens. Raises UserError where nothing fits."""
        problems = []
        for index in range(self.num_problems):
            draft = DRAFTS[self.kind](random.Random(f"{self.seed}/{self.kind}/{self.context_tokens}/{index}"))
            text = longest(draft, self.context_tokens - self.answer_tokens - MARGIN_TOKENS, count, self.name)
            shown = ", ".join(draft.expected)
            problems.append(
                EvalProblem(id=str(index), messages=user(text), reference=draft.expected, shown=shown, golden=shown)
            )
        return problems

    @property
    def answer_tokens(self) -> int:
        return ANSWER_TOKENS[self.kind.partition("_")[0]]

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        """Share of the expected strings in the answer after the reasoning, letters' case ignored."""
        answer = final_part(response)
        found = [expected for expected in problem.reference if expected.lower() in answer.lower()]
        score = len(found) / len(problem.reference)
        return Grade(score, ", ".join(found) or None, f"{len(found)} of {len(problem.reference)}")


def longest(draft: Draft, budget_tokens: int, count: CountTokens, name: str) -> str:
    """The draft's longest text within the budget, by doubling and bisection: ~log2(size) tokenizations."""
    if count(draft.build(1)) > budget_tokens:
        raise UserError(f"{name}: context_tokens is too small for a single problem; raise it")
    low, high = 1, 2
    while count(draft.build(high)) <= budget_tokens:
        low, high = high, 2 * high
    while high - low > max(1, low // 256):
        middle = (low + high) // 2
        low, high = (middle, high) if count(draft.build(middle)) <= budget_tokens else (low, middle)
    return draft.build(low)


def word(rng: random.Random, syllables: int = 3) -> str:
    return "".join(rng.choices(SYLLABLES, k=syllables))


def distinct(make: Callable[[], str], count: int) -> list[str]:
    """`count` different results of `make`."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[make()] = None
    return list(found)


def number(rng: random.Random) -> str:
    return str(rng.randrange(1_000_000, 10_000_000))


def filler(seed: int, size: int) -> list[str]:
    """The first `size` sentences of an endless text."""
    rng = random.Random(seed)
    return [f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}." for _ in range(size)]


def hide(seed: int, needles: list[str], sentences: list[str]) -> str:
    """Needles at random depths, which stay the same as the text grows."""
    rng = random.Random(seed)
    depths = [rng.random() for _ in needles]
    by_place: dict[int, list[str]] = {}
    for needle, depth in zip(needles, depths, strict=True):
        by_place.setdefault(int(depth * len(sentences)), []).append(needle)
    lines: list[str] = []
    for place, sentence in enumerate(sentences):
        lines += [*by_place.get(place, []), sentence]
    return " ".join(lines)


def niah(rng: random.Random, num_keys: int, num_values: int, num_queries: int) -> Draft:
    """Needles: `num_keys` keys with `num_values` values each, of which `num_queries` keys are asked for."""
    keys = distinct(lambda: f"{word(rng)}-{word(rng, 2)}", num_keys)
    numbers = distinct(lambda: number(rng), num_keys * num_values)
    values = {key: numbers[i * num_values : (i + 1) * num_values] for i, key in enumerate(keys)}
    asked, text_seed = rng.sample(keys, num_queries), rng.random()
    needles = [f"One of the special numbers for {key} is: {value}." for key in keys for value in values[key]]
    question = f"What are all the special numbers for {', '.join(asked)} mentioned in the text above?"
    start = "Some special numbers are hidden in the following text. Memorize them: you will be asked for them."

    def build(size: int) -> str:
        return f"{start}\n\n{hide(int(text_seed * 2**32), needles, filler(int(text_seed * 2**31), size))}\n\n{question}"

    return Draft(build, [value for key in asked for value in values[key]])


def niah_multikey(rng: random.Random) -> Draft:
    """The whole text is needles: the filler of other kinds is replaced by keys that are not asked for."""
    key, value = f"{word(rng)}-{word(rng, 2)}", number(rng)
    seed, depth = rng.random(), rng.random()

    def build(size: int) -> str:
        others = random.Random(seed)
        lines = [f"The special number for {word(others)}-{word(others, 2)}x is: {number(others)}." for _ in range(size)]
        lines.insert(int(depth * len(lines)), f"The special number for {key} is: {value}.")
        return (
            "Special numbers are given in the following text. Memorize them: you will be asked for one.\n\n"
            + " ".join(lines)
            + f"\n\nWhat is the special number for {key} mentioned in the text above?"
        )

    return Draft(build, [value])


def variable_tracking(rng: random.Random, hops: int = 4) -> Draft:
    names = distinct(lambda: "".join(rng.choices(string.ascii_uppercase, k=5)), hops + 1)
    value = str(rng.randrange(10_000, 100_000))
    chain = [f"VAR {names[0]} = {value}."]
    chain += [f"VAR {name} = VAR {earlier}." for earlier, name in itertools.pairwise(names)]
    depths, seed = sorted(rng.random() for _ in chain), rng.getrandbits(31)

    def build(size: int) -> str:
        sentences = filler(seed, size)
        # In order: an assignment stands behind the one that it reads.
        for depth, line in reversed(list(zip(depths, chain, strict=True))):
            sentences.insert(int(depth * size), line)
        return (
            "Memorize the chain of variable assignments hidden in the following text.\n\n"
            + " ".join(sentences)
            + f"\n\nFind all variables that are assigned the value {value} in the text above. There are {hops + 1}."
        )

    return Draft(build, names)


def common_words(rng: random.Random, num_common: int = 10, common_times: int = 30, rare_times: int = 3) -> Draft:
    common, seed = distinct(lambda: word(rng), num_common), rng.random()

    def build(size: int) -> str:
        maker = random.Random(seed)
        rare = distinct(lambda: word(maker, 4), size)
        # With little room common words come less often, but still more often than rare ones.
        times = max(rare_times + 2, min(common_times, size))
        words = common * times + rare * rare_times
        maker.shuffle(words)
        numbered = " ".join(f"{place}. {name}" for place, name in enumerate(words, start=1))
        return (
            "Below is a numbered list of words. Some of them are more common than all others: memorize those.\n\n"
            f"{numbered}\n\nWhat are the {num_common} most common words in the list above?"
        )

    return Draft(build, common)


def frequent_words(rng: random.Random, alpha: float = 2.0, num_asked: int = 3) -> Draft:
    """Coded words with counts falling as rank^-alpha; the most frequent sign is noise ("...")."""
    words, seed = distinct(lambda: word(rng), 60), rng.random()

    def build(size: int) -> str:
        total = 20 * size + 40
        weights = [rank**-alpha for rank in range(1, len(words) + 2)]
        counts = [max(1, round(total * weight / sum(weights))) for weight in weights]
        # The three asked for differ in their counts at any size.
        for rank in range(num_asked, 0, -1):
            counts[rank] = max(counts[rank], counts[rank + 1] + 1)
        signs = [sign for sign, times in zip(["...", *words], counts, strict=True) for _ in range(times)]
        random.Random(seed).shuffle(signs)
        return (
            'Read the following coded text, and count how often each coded word appears. Leave "..." out.\n\n'
            + " ".join(signs)
            + f"\n\nWhat are the {num_asked} most frequent coded words in the text above?"
        )

    return Draft(build, words[:num_asked])


DRAFTS: dict[str, Callable[[random.Random], Draft]] = {
    "niah_single": lambda rng: niah(rng, 1, 1, 1),
    "niah_multikey": niah_multikey,
    "niah_multivalue": lambda rng: niah(rng, 1, 4, 1),
    "niah_multiquery": lambda rng: niah(rng, 4, 1, 4),
    "vt": variable_tracking,
    "cwe": common_words,
    "fwe": frequent_words,
}
