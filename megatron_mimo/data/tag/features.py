"""Hashed n-grams and surface measures of a text, in numpy: what the linear tagger sees.

A token is a run of letters, a run of digits (of which only the length counts), one punctuation mark, one line end, or
one character of a script without spaces. Features are tokens, pairs of neighbours, and four-letter pieces of words,
each hashed to `2**hash_bits` columns; a document's vector is log(1 + count) at unit length. Polynomial hashes modulo
2**64 come from one running sum over the text, so nothing here loops over words.
"""

from dataclasses import dataclass

import numpy as np

_SPACE, _LETTER, _DIGIT, _LINE_END, _PUNCTUATION, _IDEOGRAPH = range(6)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2**64
_MIX = np.uint64(0xD6E8FEB86659FD93)
PIECE_LETTERS = 4
SURFACE_NAMES = (
    "letters", "digits", "ideographs", "capitals", "line_ends", "spaces", "mathematics_marks", "code_marks",
    "sentence_ends", "commas", "question_marks", "exclamation_marks", "currency_marks", "backslashes", "equals",
    "log_characters", "log_mean_line", "short_lines", "indented_lines", "distinct_tokens", "mean_word", "mean_sentence",
)  # fmt: skip


def _character_classes() -> np.ndarray:
    """Class of every code point, uint8 [0x110000]."""
    classes = np.full(0x110000, _LETTER, dtype=np.uint8)
    for code in range(0x3000):
        character = chr(code)
        if character.isspace() or code < 32:
            classes[code] = _SPACE
        elif character.isdigit():
            classes[code] = _DIGIT
        elif not character.isalpha():
            classes[code] = _PUNCTUATION
    classes[0x3000:0x3040] = _PUNCTUATION
    classes[0x3040:0xA000] = _IDEOGRAPH
    classes[0xF900:0xFB00] = _IDEOGRAPH
    classes[0xFF00:0xFFF0] = _PUNCTUATION
    classes[0x1F000:] = _PUNCTUATION
    classes[0x20000:0x30000] = _IDEOGRAPH
    classes[ord("\n")] = _LINE_END
    return classes


_CLASSES = _character_classes()


def _inverse_powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    powers = np.full(length, _BASE, dtype=np.uint64)
    inverses = np.full(length, np.uint64(pow(int(_BASE), -1, 2**64)), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(powers), np.multiply.accumulate(inverses)


@dataclass
class _Tokens:
    codes: np.ndarray
    """Code points, lower case, digits all alike, uint64 [characters]."""
    classes: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    """Token i is characters starts[i] to ends[i]."""


class FeatureHasher:
    """Turns texts into sparse vectors; only the first `max_characters` of a text are read."""

    def __init__(self, hash_bits: int = 17, max_characters: int = 8192) -> None:
        self.hash_bits, self.max_characters = hash_bits, max_characters
        self._powers, self._inverses = _inverse_powers(max_characters + 1)

    def ngrams(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Columns, int64 [f], and values, float32 [f], of the features a text has."""
        tokens = _tokenize(text[: self.max_characters])
        if not len(tokens.starts):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        with np.errstate(over="ignore"):
            sums = np.zeros(len(tokens.codes) + 1, np.uint64)
            np.cumsum((tokens.codes + np.uint64(1)) * self._powers[: len(tokens.codes)], out=sums[1:])
            words = self._hash(sums, tokens.starts, tokens.ends)
            pairs = words[:-1] * _MIX + words[1:] * _BASE
            letters = np.concatenate([[0], np.cumsum(tokens.classes == _LETTER)])
            begins = np.flatnonzero(letters[PIECE_LETTERS:] - letters[:-PIECE_LETTERS] == PIECE_LETTERS)
            pieces = self._hash(sums, begins, begins + PIECE_LETTERS) * _MIX
        hashes = np.concatenate([words, pairs, pieces])
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _BASE >> np.uint64(64 - self.hash_bits)
        columns, counts = np.unique(hashes, return_counts=True)
        values = np.log1p(counts).astype(np.float32)
        return columns.astype(np.int64), values / np.linalg.norm(values)

    def _hash(self, sums: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Polynomial hashes of the character ranges, wherever they stand in the text."""
        return (sums[ends] - sums[starts]) * self._inverses[starts]

    def surface(self, text: str) -> np.ndarray:
        """Measures of how a text looks, float32 [len(SURFACE_NAMES)], about 0 to 1 each."""
        return _surface(text[: self.max_characters])


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="replace"), dtype=np.uint32)


def _tokenize(text: str) -> _Tokens:
    codes = _code_points(text.lower()).astype(np.uint64)[: len(text)]
    classes = _CLASSES[codes]
    codes[classes == _DIGIT] = ord("0")
    alone = (classes == _PUNCTUATION) | (classes == _IDEOGRAPH)
    changes = np.ones(len(classes), dtype=bool)
    changes[1:] = (classes[1:] != classes[:-1]) | alone[1:]
    starts = np.flatnonzero(changes)
    ends = np.append(starts[1:], len(classes))
    kept = classes[starts] != _SPACE
    return _Tokens(codes, classes, starts[kept], ends[kept])


def _surface(text: str) -> np.ndarray:
    codes = _code_points(text)
    length = max(len(codes), 1)
    classes = _CLASSES[codes]
    shares = [np.count_nonzero(classes == kind) / length for kind in (_LETTER, _DIGIT, _IDEOGRAPH)]
    capitals = np.count_nonzero((codes >= ord("A")) & (codes <= ord("Z"))) / length
    shares += [capitals, 10 * text.count("\n") / length, text.count(" ") / length]
    marks = ("+-=<>^_|∑∫√≤≥≠∞∈→", "{}();[]_<>/#*&", ".!?。！？", ",，、", "?？", "!！", "$€£¥￥", "\\", "=")
    shares += [min(1.0, 10 * sum(map(text.count, group)) / length) for group in marks]
    lines = [line for line in text.splitlines() if line.strip()]
    sizes = np.array([len(line) for line in lines] or [0])
    tokens = text.split()
    sentences = sum(map(text.count, ".!?。！？")) + 1
    shares += [
        np.log10(length) / 5,
        np.log10(1 + sizes.mean()) / 4,
        float(np.mean(sizes < 40)),
        sum(line[0] in " \t" for line in lines) / max(len(lines), 1),
        len(set(tokens)) / max(len(tokens), 1),
        min(1.0, sum(map(len, tokens)) / max(len(tokens), 1) / 20),
        min(1.0, length / sentences / 400),
    ]
    return np.array(shares, dtype=np.float32)
