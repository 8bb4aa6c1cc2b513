"""The ten words that a list holds most often, and the three coded words that a text does."""

import itertools
import math
import random
import string
from functools import partial

from megatron_mimo.eval.ruler.fit import longest
from megatron_mimo.eval.ruler.form import WORDINGS, CountTokens, Draft
from megatron_mimo.eval.ruler.haystack import SYLLABLES, Haystack
from megatron_mimo.eval.ruler.needles import distinct

NUM_COMMON = 10
SHORT_TOKENS = 4096
"""Below this length words come less often."""


def common_words(haystack: Haystack, rng: random.Random, context_tokens: int) -> Draft:
    """Ten words come 30 times, the others 3 times; in short contexts 6 times and once. A worked example comes first."""
    is_short = context_tokens < SHORT_TOKENS
    (common, rare), (example_size, *example_times) = ((6, 1), (20, 3, 1)) if is_short else ((30, 3), (40, 10, 3))
    wording = WORDINGS["common_words"]
    example = WordList(haystack, rng, *example_times)
    answer = " ".join(f"{place}. {word}" for place, word in enumerate(example.words(NUM_COMMON), start=1))
    start = f"{example.text(example_size)}{wording.prefix} {answer}\n"
    asked = WordList(haystack, rng, common, rare)
    build = partial(longest, lambda size: start + asked.text(size), NUM_COMMON + 1)
    return Draft(build, wording.prefix, tuple(asked.words(NUM_COMMON)))


class WordList:
    """A numbered list of words, the first ten of which come more often."""

    def __init__(self, haystack: Haystack, rng: random.Random, common_times: int, rare_times: int) -> None:
        """Draws the order of the haystack's words; made-up ones follow where it has too few."""
        self._common_times, self._rare_times = common_times, rare_times
        self._order = rng.sample(haystack.words, len(haystack.words))
        self._seed = rng.getrandbits(64)
        self._maker = random.Random(self._seed)

    def words(self, count: int) -> list[str]:
        """The first `count` words, the same ones at every count."""
        if count > len(self._order):
            known = set(self._order)
            made_up = ("".join(self._maker.choices(SYLLABLES, k=4)) for _ in itertools.count())
            new = dict.fromkeys(itertools.islice((word for word in made_up if word not in known), 2 * count))
            self._order += new
        return self._order[:count]

    def text(self, size: int) -> str:
        """The question over a list of `size` different words."""
        words = self.words(size)
        listed = words[:NUM_COMMON] * self._common_times + words[NUM_COMMON:] * self._rare_times
        random.Random(self._seed).shuffle(listed)
        context = " ".join(f"{place}. {word}" for place, word in enumerate(listed, start=1))
        return WORDINGS["common_words"].prompt.format(context=context)


def frequent_words(rng: random.Random, alpha: float = 2.0, letters: int = 6) -> Draft:
    """Coded words with counts falling as rank^-alpha; the most frequent sign is noise ("...")."""
    wording, seed = WORDINGS["frequent_words"], rng.getrandbits(64)
    total_weight = math.pi**2 / 6  # the sum of rank^-2 over all ranks

    def coded(count: int) -> list[str]:
        maker = random.Random(seed)
        return distinct(lambda: "".join(maker.choices(string.ascii_lowercase, k=letters)), count)

    def fit(budget_tokens: int, count: CountTokens) -> str:
        vocabulary = ["...", *coded(max(8, budget_tokens // 50) - 1)]

        def build(size: int) -> str:
            counts = [int(size * rank**-alpha / total_weight) for rank in range(1, len(vocabulary) + 1)]
            signs = [sign for sign, times in zip(vocabulary, counts, strict=True) for _ in range(times)]
            random.Random(seed).shuffle(signs)
            return wording.prompt.format(context=" ".join(signs))

        return longest(build, 40, budget_tokens, count)

    return Draft(fit, wording.prefix, tuple(coded(3)))
