"""MinHash signatures and their band keys.

A token is the polynomial of its folded characters in CHARACTER_BASE, a shingle the polynomial of `ngram` mixed tokens
in TOKEN_BASE, both modulo 2**64; the upper half of the mixed shingle is `x`, and value j of the signature is the
minimum of `multipliers[j] * x + offsets[j]` modulo 2**32 over all shingles (Broder 1997; multiply-shift as in
Dietzfelbinger et al. 1997). `_minhash.c` computes this natively; `signatures_numpy` is the same in numpy, with equal
results, for machines where the extension was not built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from megatron_mimo.data.dedup.characters import ALONE, FOLDED_MASK, IGNORED, character_table

try:
    from megatron_mimo.data.dedup import _minhash  # type: ignore[attr-defined]  # built by setup.py
except ImportError:
    _minhash = None

NATIVE = _minhash is not None
CHARACTER_BASE = 0x9E3779B97F4A7C15
TOKEN_BASE = 0xD6E8FEB86659FD93
EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the signature of a text without tokens."""
_MASK = 2**64 - 1


def mix(h: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that spreads every bit (MurmurHash3's finaliser)."""
    h = h ^ (h >> np.uint64(33))
    h = h * np.uint64(0xFF51AFD7ED558CCD)
    h = h ^ (h >> np.uint64(33))
    h = h * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@dataclass(frozen=True)
class MinHash:
    """Which minima are taken, and how they make keys.

    The minima lie in `num_bands` bands of `rows`, a key each. `overlapping` adds as many keys that reach over half of a
    band and half of the next one (the last reaches over to the first): no further hashing, and fewer pairs are missed.
    """

    num_bands: int = 14
    rows: int = 8
    ngram: int = 5
    """Tokens a shingle."""
    seed: int = 1
    overlapping: bool = False

    @property
    def num_keys(self) -> int:
        """Keys a text."""
        return self.num_bands * (2 if self.overlapping else 1)

    @cached_property
    def multipliers(self) -> np.ndarray:
        """uint32 [permutations], odd."""
        return self._random(0) | np.uint32(1)

    @cached_property
    def offsets(self) -> np.ndarray:
        """uint32 [permutations]."""
        return self._random(1)

    def signatures(self, texts: Sequence[str]) -> np.ndarray:
        """uint32 [texts, num_bands * rows]."""
        if _minhash is None:
            return self.signatures_numpy(texts)
        values = _minhash.signatures(texts, character_table(), self.multipliers, self.offsets, self.ngram)
        return np.frombuffer(values, np.uint32).reshape(-1, self.num_bands * self.rows)

    def signatures_numpy(self, texts: Sequence[str]) -> np.ndarray:
        """The same without the extension; some 40 bytes of memory a character of the longest text."""
        result = np.full((len(texts), self.num_bands * self.rows), EMPTY)
        for row, text in zip(result, texts, strict=True):
            shingles = shingle_hashes(text, self.ngram)
            if len(shingles):
                for j, (multiplier, offset) in enumerate(zip(self.multipliers, self.offsets, strict=True)):
                    row[j] = (shingles * multiplier + offset).min()
        return result

    def band_keys(self, signatures: np.ndarray) -> np.ndarray:
        """uint64 [texts, num_keys]: a hash of the band's number and its rows; meaningless where `is_empty`."""
        if self.overlapping:
            signatures = np.concatenate([signatures, np.roll(signatures, self.rows // 2, axis=1)], axis=1)
        rows = signatures.reshape(-1, self.num_keys, self.rows).astype(np.uint64)
        keys = np.broadcast_to(mix(np.arange(1, self.num_keys + 1, dtype=np.uint64)), rows.shape[:2])
        for i in range(self.rows):
            keys = mix((keys + rows[:, :, i]) * np.uint64(TOKEN_BASE))
        return keys

    def collision_probability(self, jaccard: float) -> float:
        """Of two texts of this Jaccard sharing a key; with overlapping bands for an even number of rows.

        With overlapping bands half bands stand in a circle of n = 2 num_bands, each equal with p = J**(rows / 2), and
        no two neighbours may be equal: the trace of the n-th power of [[1 - p, p], [1 - p, 0]].
        """
        if not self.overlapping:
            return 1 - (1 - jaccard**self.rows) ** self.num_bands
        p = jaccard ** (self.rows / 2)
        root = ((1 - p) * (1 + 3 * p)) ** 0.5
        return 1 - sum(((1 - p + sign * root) / 2) ** (2 * self.num_bands) for sign in (1, -1))

    def _random(self, stream: int) -> np.ndarray:
        numbers = np.arange(self.num_bands * self.rows, dtype=np.uint64) * np.uint64(2) + np.uint64(stream)
        start = mix(np.array([self.seed], dtype=np.uint64))
        return (mix(mix(numbers + start)) >> np.uint64(32)).astype(np.uint32)


def is_empty(signatures: np.ndarray) -> np.ndarray:
    """bool [texts]: the text had no token."""
    return (signatures == EMPTY).all(axis=1)


def token_hashes(text: str) -> np.ndarray:
    """uint64 [tokens] of a text."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    table = character_table()
    entries = np.where(codes < len(table), table[np.minimum(codes, len(table) - 1)], np.uint32(0))
    entries = entries[entries & IGNORED == 0]
    inside, alone = entries != 0, entries & ALONE != 0
    starts = np.flatnonzero(inside & (alone | _shifted(~inside | alone, 1)))
    ends = np.flatnonzero(inside & (alone | _shifted(~inside | alone, -1))) + 1
    # Horner's scheme over any slice from one running sum: the base is odd, so it has an inverse modulo 2**64.
    folded = (entries & FOLDED_MASK).astype(np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(folded * _powers(pow(CHARACTER_BASE, -1, 2**64), folded))])
    powers = np.concatenate([_powers(CHARACTER_BASE, folded), np.zeros(1, np.uint64)])
    powers[-1] = pow(CHARACTER_BASE, len(folded), 2**64)
    return mix((sums[ends] - sums[starts]) * powers[ends])


def shingle_hashes(text: str, ngram: int) -> np.ndarray:
    """uint32 [shingles]; one shingle of all tokens where there are fewer than `ngram`."""
    tokens = token_hashes(text)
    ngram = min(ngram, len(tokens))
    if ngram == 0:
        return np.zeros(0, np.uint32)
    window = np.zeros(len(tokens) - ngram + 1, np.uint64)
    for i in range(ngram):
        window = window * np.uint64(TOKEN_BASE) + tokens[i : i + len(window)]
    return (mix(window) >> np.uint64(32)).astype(np.uint32)


def _shifted(flags: np.ndarray, by: int) -> np.ndarray:
    """Flags of the left (1) or right (-1) neighbour; outside the text is a separator."""
    shifted = np.ones_like(flags)
    if by > 0:
        shifted[1:] = flags[:-1]
    else:
        shifted[:-1] = flags[1:]
    return shifted


def _powers(base: int, like: np.ndarray) -> np.ndarray:
    """uint64: base**0, base**1, ... modulo 2**64."""
    powers = np.full(len(like), base & _MASK, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)
