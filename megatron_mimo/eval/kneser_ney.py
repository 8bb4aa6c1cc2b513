"""Byte-level Kneser-Ney language model: the classical baseline a trained model has to beat.

Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for
Language Modeling", section 3): three discounts an order, continuation counts below the highest order, and the uniform
distribution over the 256 bytes at the bottom.

Every document begins with one start symbol, which is context and never predicted; an n-gram that begins with it cannot
be extended to the left and keeps its plain count at every order, as in KenLM. The end of a document is not predicted.

Shapes: `n` bytes of a document, `g` distinct n-grams of one order, `c` distinct contexts of one order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

START = 256
BITS_PER_SYMBOL = np.uint64(9)
MAX_ORDER = 7
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Order:
    """The table of one n-gram order: `p(w | h) = weight(h w) + backoff(h) * p_lower(w | h[1:])`."""

    grams: Keys  # [g], sorted
    weights: Reals  # [g], discounted relative counts
    contexts: Keys  # [c], sorted
    backoffs: Reals  # [c]

    def interpolate(self, grams: Keys, lower: Reals) -> Reals:
        """Probabilities of this order from those of the order below, both `[n]`; an unseen context keeps the lower."""
        weights = _look_up(self.grams, self.weights, grams, missing=0.0)
        backoffs = _look_up(self.contexts, self.backoffs, grams >> BITS_PER_SYMBOL, missing=1.0)
        return weights + backoffs * lower


@dataclass(frozen=True)
class KneserNey:
    """A fitted model; `orders[k]` holds the (k+1)-grams."""

    orders: list[Order]

    @classmethod
    def fit(cls, documents: Iterable[bytes], order: int = 5) -> "KneserNey":
        """Count `documents` once, each from its own start. Raises ValueError for an order outside 2..7 or no bytes."""
        if not 2 <= order <= MAX_ORDER:
            raise ValueError(f"order must be 2..{MAX_ORDER} to fit {BITS_PER_SYMBOL}-bit symbols into 64 bits: {order}")
        stream, positions = _join([document for document in documents if document])
        if not len(stream):
            raise ValueError("a Kneser-Ney model needs at least one byte of training text")
        tables = _adjusted_counts(stream, positions, order)
        return cls([_estimate(grams, counts) for grams, counts in tables if len(grams)])

    def probabilities(self, document: bytes) -> Reals:
        """`p(byte | its context)` for every byte of one document, `[n]`."""
        return self._score(*_join([document])) if document else np.empty(0)

    def next_byte(self, context: bytes) -> Reals:
        """Distribution `[256]` of the byte after `context`, which starts a document."""
        documents = [context + bytes([byte]) for byte in range(256)]
        return self._score(*_join(documents))[len(context) :: len(context) + 1]

    def bits(self, documents: Iterable[bytes]) -> float:
        """Code length of `documents` in bits, each scored from its own start."""
        filled = [document for document in documents if document]
        return float(-np.log2(self._score(*_join(filled))).sum()) if filled else 0.0

    def bits_per_byte(self, documents: Iterable[bytes]) -> float:
        """Code length over size; raises ValueError without a byte to score."""
        scored = list(documents)
        size_bytes = sum(map(len, scored))
        if not size_bytes:
            raise ValueError("bits per byte of no text")
        return self.bits(scored) / size_bytes

    def _score(self, stream: Keys, positions: Counts) -> Reals:
        predicted = positions > 0
        probabilities = np.full(int(predicted.sum()), 1 / 256)
        for length, table in enumerate(self.orders, start=1):
            deep = positions[predicted] >= length - 1
            grams = _grams(stream, length)[predicted][deep]
            probabilities[deep] = table.interpolate(grams, probabilities[deep])
        return probabilities


def _join(documents: list[bytes]) -> tuple[Keys, Counts]:
    """Symbols of all documents, a start symbol before each, and every symbol's distance from that start."""
    lengths = np.array([len(document) + 1 for document in documents], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    stream = np.full(int(lengths.sum()), START, dtype=np.uint64)
    positions = np.arange(len(stream)) - np.repeat(starts, lengths)
    stream[positions > 0] = np.frombuffer(b"".join(documents), dtype=np.uint8)
    return stream, positions


def _grams(stream: Keys, length: int) -> Keys:
    """The n-gram that ends at each symbol, newest symbol in the lowest bits; meaningless where it crosses a start."""
    keys = stream.copy()
    for distance in range(1, length):
        keys[distance:] |= stream[:-distance] << (BITS_PER_SYMBOL * np.uint64(distance))
    return keys


def _adjusted_counts(stream: Keys, positions: Counts, order: int) -> list[tuple[Keys, Counts]]:
    """`(grams, counts)` of orders 1..order: plain counts at the top, left-continuation counts below it."""
    grams, counts = np.unique(_grams(stream, order)[positions >= order - 1], return_counts=True)
    tables = [(grams, counts)]
    for length in range(order - 1, 0, -1):
        dropped_first = np.uint64((1 << (int(BITS_PER_SYMBOL) * length)) - 1)
        at_start = _grams(stream, length)[positions == length - 1] if length > 1 else np.empty(0, np.uint64)
        grams, counts = np.unique(np.concatenate([grams & dropped_first, at_start]), return_counts=True)
        tables.append((grams, counts))
    return tables[::-1]


def _estimate(grams: Keys, counts: Counts) -> Order:
    """Discounted weights and backoffs of one order (Chen and Goodman 1998, equations 24-26)."""
    discounts = np.array((0.0, *_discounts(counts)))
    discounted = discounts[np.minimum(counts, 3)]
    contexts, first = np.unique(grams >> BITS_PER_SYMBOL, return_index=True)
    totals = np.add.reduceat(counts.astype(np.float64), first)
    backoffs = np.add.reduceat(discounted, first) / totals
    per_gram = np.repeat(totals, np.diff(np.append(first, len(grams))))
    return Order(grams, (counts - discounted) / per_gram, contexts, backoffs)


def _discounts(counts: Counts) -> tuple[float, float, float]:
    """D1, D2, D3+ from the counts of counts; fixed ones where those give none (as among the 256 unigrams)."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    within = all(0 <= discount <= count for count, discount in enumerate(estimated, start=1))
    return estimated if within else FALLBACK_DISCOUNTS


def _look_up(keys: Keys, values: Reals, wanted: Keys, missing: float) -> Reals:
    """`values` at the sorted `keys` equal to `wanted`, `missing` elsewhere."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], missing)
