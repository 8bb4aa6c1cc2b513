"""The vectorised model against a dictionary implementation written straight from Chen and Goodman (1998)."""

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from megatron_mimo.eval.kneser_ney import FALLBACK_DISCOUNTS, START, KneserNey


class NaiveKneserNey:
    """Interpolated modified Kneser-Ney over tuples of symbols, one dictionary an order, recursive."""

    def __init__(self, documents: list[bytes], order: int) -> None:
        self.order = order
        plain = Counter()
        for document in documents:
            symbols = (START, *document)
            for end in range(2, len(symbols) + 1):
                for length in range(1, min(end, order) + 1):
                    plain[symbols[end - length : end]] += 1
        left = defaultdict(set)
        for gram in plain:
            if len(gram) > 1:
                left[gram[1:]].add(gram[0])
        self.counts = {
            gram: count if len(gram) == order or gram[0] == START else len(left[gram]) for gram, count in plain.items()
        }
        self.followers = defaultdict(dict)
        for gram, count in self.counts.items():
            self.followers[gram[:-1]][gram[-1]] = count
        self.discounts = {length: self.estimate(length) for length in range(1, order + 1)}

    def estimate(self, length: int) -> tuple[float, ...]:
        n = Counter(count for gram, count in self.counts.items() if len(gram) == length)
        if not (n[1] and n[2] and n[3]):
            return (0, *FALLBACK_DISCOUNTS)
        y = n[1] / (n[1] + 2 * n[2])
        d = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return (0, *d) if all(0 <= x <= k for k, x in enumerate(d, 1)) else (0, *FALLBACK_DISCOUNTS)

    def probability(self, context: tuple[int, ...], byte: int) -> float:
        """Context as a tuple of symbols, START included, already cut to `order - 1`."""
        lower = self.probability(context[1:], byte) if context else 1 / 256
        followers = self.followers.get(context)
        if not followers:
            return lower
        discounts = self.discounts[len(context) + 1]
        total = sum(followers.values())
        backoff = sum(discounts[min(count, 3)] for count in followers.values()) / total
        count = followers.get(byte, 0)
        return (count - discounts[min(count, 3)]) / total + backoff * lower

    def document(self, document: bytes) -> list[float]:
        symbols = (START, *document)
        return [self.probability(symbols[max(0, i - self.order + 1) : i], symbols[i]) for i in range(1, len(symbols))]


def words(seed: int, documents: int) -> list[bytes]:
    rng = random.Random(seed)
    vocabulary = [b"the ", b"then ", b"cat", b"car ", b"sat. ", b"\x00", b"\xff ", b"mat\n", b"a"]
    return [b"".join(rng.choices(vocabulary, k=rng.randrange(0, 30))) for _ in range(documents)]


@pytest.mark.parametrize("order", [2, 3, 5, 7])
def test_equals_the_dictionary_implementation(order: int) -> None:
    training, held_out = words(0, 200), [*words(1, 20), b"unseen bytes: \x80\x81 qzx", b"c"]
    fast, naive = KneserNey.fit(training, order), NaiveKneserNey(training, order)
    for document in held_out:
        np.testing.assert_allclose(fast.probabilities(document), naive.document(document), rtol=1e-9)


def test_estimated_discounts_are_used_where_counts_allow() -> None:
    naive = NaiveKneserNey(words(0, 200), 5)
    assert naive.discounts[5][1:] != FALLBACK_DISCOUNTS  # else the comparison above would test the fallback alone


@pytest.mark.parametrize("context", [b"", b"t", b"th", b"the ", b"the cat sat", b"\x00\xff", b"never seen \x91"])
def test_sums_to_one_over_the_bytes(context: bytes) -> None:
    distribution = KneserNey.fit(words(0, 200)).next_byte(context)
    assert distribution.shape == (256,)
    assert distribution.min() > 0
    assert distribution.sum() == pytest.approx(1, abs=1e-12)


def test_bits_per_byte_is_the_mean_code_length_with_each_document_from_its_start() -> None:
    model, documents = KneserNey.fit(words(0, 200)), [b"the cat", b"", b"sat. a"]
    bits = [-math.log2(p) for document in documents for p in model.probabilities(document)]
    assert model.bits_per_byte(iter(documents)) == pytest.approx(sum(bits) / 13)


def test_reaches_the_entropy_of_the_source() -> None:
    """Four equally likely bytes carry two bits each, however they are modelled; a repeated text almost none."""
    rng = random.Random(0)
    noise = [bytes(rng.choices(b"acgt", k=1000)) for _ in range(200)]
    assert KneserNey.fit(noise[:180]).bits_per_byte(noise[180:]) == pytest.approx(2, abs=0.01)
    text = b"".join(words(3, 5))
    assert KneserNey.fit([text] * 1000).bits_per_byte([text]) < 1


def test_documents_shorter_than_the_order() -> None:
    model, naive = KneserNey.fit([b"a", b"b", b"a"]), NaiveKneserNey([b"a", b"b", b"a"], 5)
    np.testing.assert_allclose(model.probabilities(b"abab"), naive.document(b"abab"), rtol=1e-12)


def test_refuses_nothing_to_learn_from_and_impossible_orders() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        KneserNey.fit([b""])
    with pytest.raises(ValueError, match="order must be"):
        KneserNey.fit([b"text"], order=8)
    with pytest.raises(ValueError, match="no text"):
        KneserNey.fit([b"text"]).bits_per_byte([])
