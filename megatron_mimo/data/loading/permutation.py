"""A random order of n items that needs no memory: item i is computed, not looked up.

A four-round Feistel network over the next power of four, walked until the value falls below n (Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002).
"""

import hashlib

_MASK = 2**64 - 1


class Permutation:
    """A permutation of `range(size)`, drawn by `key`."""

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        digest = hashlib.sha256(key.encode()).digest()
        self._round_keys = [int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8)]

    def __getitem__(self, index: int) -> int:
        """The item in place `index`; raises IndexError outside `range(size)`."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        value = self._encrypt(index)
        while value >= self.size:
            value = self._encrypt(value)
        return value

    def _encrypt(self, value: int) -> int:
        mask = (1 << self._half_bits) - 1
        left, right = value >> self._half_bits, value & mask
        for key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return left << self._half_bits | right


def _mix(value: int) -> int:
    """Finalizer of SplitMix64: every input bit reaches every output bit."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
