"""64-bit hashes of all n-grams of a sequence of word numbers. `w` words, `n` words an n-gram.

Equal n-grams have equal hashes; hashes only point at candidates, which are then compared word by word.
"""

import numpy as np

_BASE = 0x9E3779B97F4A7C15


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Polynomial hashes modulo 2^64 of every n consecutive words: uint64 [max(0, w - n + 1)].

    Built by doubling: the hash of 2k words is made of those of two times k words, so it takes about log2(n) passes.
    """
    if len(words) < n:
        return np.empty(0, dtype=np.uint64)
    power = _scrambled(words)
    total, covered, length = None, 0, 1
    while True:
        if n & length:
            piece = power[covered : covered + len(words) - n + 1]
            total = piece if total is None else total * np.uint64(pow(_BASE, length, 2**64)) + piece
            covered += length
        if covered == n:
            assert total is not None
            return _scrambled(total)
        power = power[:-length] * np.uint64(pow(_BASE, length, 2**64)) + power[length:]
        length *= 2


def _scrambled(values: np.ndarray) -> np.ndarray:
    """Spread the bits: sums of small numbers would crowd together."""
    values = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(_BASE)
    values ^= values >> np.uint64(29)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(32)
    return values


def ngram_rows(words: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """The n-grams that begin at `starts`: [len(starts), n]."""
    return words[starts[:, None] + np.arange(n)]
